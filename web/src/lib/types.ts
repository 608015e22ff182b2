// What the API says, by the names that the pages use. Generated from orchestrator/api/openapi.json.

import type { components } from "../api/schema";

type Schemas = components["schemas"];
export type Availability = Schemas["Availability"];
export type Node = Schemas["Node"];
export type Link = Schemas["LinkSample"];
export type Utilization = Schemas["Utilization"];
export type Workload = Schemas["Workload"];
export type Phase = Schemas["Phase"];
export type Migration = Schemas["Migration"];
export type Decision = Schemas["Decision"];
export type Candidate = Schemas["Candidate"];
export type Problem = Schemas["Problem"];
export type FieldError = Schemas["FieldError"];
export type Plan = Schemas["Plan"];
export type PlanAction = Schemas["PlanAction"];
export type PolicyView = Schemas["PolicyView"];
export type Samples = Schemas["Samples"];
export type Delays = Schemas["Delays"];
export type PlanMigrate = Schemas["PlanMigrate"];
export const isMigrate = (action: PlanAction): action is PlanMigrate & PlanAction => "expected" in action;
export type Identity = Schemas["Identity"];
export type AuditEntry = Schemas["AuditEntry"];
export type PolicyCheck = Schemas["PolicyCheck"];
export type PolicyReplay = Schemas["PolicyReplay"];
export type PolicyVersion = Schemas["PolicyVersion"];
export type PolicyDifference = Schemas["PolicyDifference"];
export type Occurrence = Schemas["Occurrence"];
export type LogLine = Schemas["LogLine"];
export type Preflight = Schemas["Preflight"];

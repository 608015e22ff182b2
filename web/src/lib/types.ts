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
export type FieldError = Schemas["FieldError"] & { place?: { line: number; column: number } | null };
export type Plan = Schemas["Plan"];
export type PlanAction = Schemas["PlanAction"];
export type PolicyView = Schemas["PolicyView"] & { text?: string };
export type Samples = Schemas["Samples"];
export type PlanMigrate = Schemas["PlanMigrate"];
export const isMigrate = (action: PlanAction): action is PlanMigrate & PlanAction => "expected" in action;

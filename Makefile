# Fogshift. `make demo` shows it, `make test` proves it. Both install what is missing and need nothing run before them.
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
APT_TOOLS := debootstrap:debootstrap ip:iproute2 nsenter:util-linux setpriv:util-linux nft:nftables cc:gcc chromium:chromium curl:curl
.DEFAULT_GOAL := help
WEB_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' -not -path 'web/tests/*' -not -path 'web/screenshots/*' -not -path 'web/src/api/*') orchestrator/api/openapi.json
.PHONY: bench help demo demo-sim build check test test-full simulation soak e2e monitoring api-fuzz chaos bench-decisions bench-load web web-e2e deny deps deps-build clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: ## Four real hosts; an overloaded one sheds its container by itself (DEMO_EXIT=1 ends after the move)
	@[ "$$(id -u)" = 0 ] || { echo "Real hosts need root: run it as root, or try 'make demo-sim', which shows the same decision with simulated nodes."; exit 1; }
	@[ "$$(uname -s)" = Linux ] || { echo "Containers move only on Linux: try 'make demo-sim', which shows the same decision with simulated nodes."; exit 1; }
	@$(MAKE) --no-print-directory deps build
	$(TARGET)/release/fog-demo

demo-sim: build ## The same decision with the real orchestrator and simulated nodes: needs no root
	tests/sim/demo-sim.sh $(TARGET)/release

build: deps-build web/dist/index.html ## Every program in release mode, in target/release
	$(CARGO) build --release --workspace --bins --locked

web/node_modules/.installed: web/package-lock.json web/package.json
	@command -v npm >/dev/null || { echo "Node.js is missing (for the dashboard): install version 20.19 or newer, for example with apt-get install nodejs npm"; exit 1; }
	cd web && npm ci
	@touch $@

web/dist/index.html: web/node_modules/.installed $(WEB_SOURCES)
	cd web && npm run build

web: web/dist/index.html ## The dashboard, which make build puts into the orchestrator

check: deps-build web/dist/index.html ## Fast inner loop: format, lints, unit and property tests; no hosts
	cd web && npm run check && npm test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked

test: ## Everything: check, then the end-to-end tests on real hosts
	@[ "$$(id -u)" = 0 ] || { echo "The end-to-end tests start real hosts, which needs root: run 'make test' as root, or 'make check' for the rest."; exit 1; }
	$(MAKE) --no-print-directory deps check build simulation monitoring api-fuzz web-e2e e2e

simulation: ## 1,000 hours of simulated clusters under faults, after make build: every promise kept, every broken variant caught
	$(TARGET)/release/fog-soak prove
	$(TARGET)/release/fog-soak soak --hours 1000

soak: build ## Simulated clusters for as long as you like (HOURS=10000, SEED=1 is the first one's, OUT=figures.json)
	$(TARGET)/release/fog-soak soak --hours $(or $(HOURS),10000) --seed $(or $(SEED),1) $(if $(OUT),--out $(OUT))

e2e: ## The end-to-end tests alone, after make build
	$(CARGO) build --locked -p fog-lab
	$(CARGO) test --locked -p fog-netns --test real_namespaces -- --ignored
	$(CARGO) test --locked -p fog-lab --test real_hosts -- --ignored --test-threads=1
	$(CARGO) test --locked -p fog-e2e -- --test-threads=1 --nocapture

web-e2e: ## The dashboard in Chromium: every page with simulated nodes (tests/e2e does it with real hosts)
	cd web && FOG_BIN_DIR=$(abspath $(TARGET))/release npm run e2e -- --project pages --project scale

monitoring: $(TARGET)/prometheus/usr/bin/prometheus ## The metrics, alert rules and dashboard against a real Prometheus
	FOG_PROMETHEUS_DIR=$(abspath $(TARGET))/prometheus/usr/bin $(CARGO) test --locked -p fog-orchestrator --test monitoring -- --ignored

# Debian's own package, unpacked and not installed: no service starts, nothing stays.
$(TARGET)/prometheus/usr/bin/prometheus:
	mkdir -p $(TARGET)/prometheus
	[ "$$(id -u)" != 0 ] || apt-get update -qq
	cd $(TARGET)/prometheus && rm -f *.deb && apt-get -qq -o APT::Sandbox::User=root download prometheus && dpkg-deb -x prometheus_*.deb . && rm -f *.deb

api-fuzz: $(TARGET)/schemathesis/bin/st ## schemathesis against the API: at least 20,000 requests, every answer as the document has it
	TMPDIR=$(or $(wildcard /dev/shm),/tmp) FOG_SCHEMATHESIS=$(abspath $(TARGET))/schemathesis/bin/st $(CARGO) test --locked -p fog-orchestrator --test fuzz -- --ignored --nocapture

$(TARGET)/schemathesis/bin/st: orchestrator/tests/schemathesis.txt
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || { echo "Python's venv is missing (for schemathesis): apt-get install python3-venv"; exit 1; }
	python3 -m venv $(TARGET)/schemathesis
	$(TARGET)/schemathesis/bin/pip install -q --disable-pip-version-check -r orchestrator/tests/schemathesis.txt
	@touch $@

chaos: deps build ## Random faults in N real migrations (N=50, SEED=a number to repeat a run)
	N=$(or $(N),50) $(if $(SEED),SEED=$(SEED)) $(TARGET)/release/fog-chaos

test-full: test ## What does not fit into make test; its last result is committed in tests/results
	mkdir -p tests/results
	N=216 SEED=$(or $(SEED),7) OUT=tests/results/chaos.json $(TARGET)/release/fog-chaos
	ROUNDS=10 OUT=$(abspath tests/results/workloads.json) $(CARGO) test --locked -p fog-e2e --test workloads -- --test-threads=1 --nocapture
	cd web && FOG_BIN_DIR=$(abspath $(TARGET))/release FOG_SCALE_NODES=1000 npm run e2e -- --project scale --project soak

bench: deps build ## A move's time and cost beside bare CRIU, podman and stock Docker: a quarter of an hour on an idle machine (MOVES=20)
	mkdir -p tests/bench/results
	$(TARGET)/release/fog-bench table --moves $(or $(MOVES),20) --out tests/bench/results/table.json | tee tests/bench/results/table.md

bench-load: deps-build ## How many nodes one orchestrator holds; the raw data and tables of tests/bench-load
	$(CARGO) build --release --locked -p fog-bench-load -p fog-orchestrator
	OUT=tests/bench-load/results/$$(date +%F)-$$(git rev-parse --short HEAD); mkdir -p tests/bench-load/results; \
	$(TARGET)/release/fog-load curve > $$OUT-curve.json && $(TARGET)/release/fog-load overload > $$OUT-overload.json && \
	$(TARGET)/release/fog-load database > $$OUT-database.json && $(TARGET)/release/fog-load table $$OUT-*.json

bench-decisions: deps-build ## How fast and how well the planner decides; the tables of tests/bench-decisions
	$(CARGO) build --release --locked -p fog-bench-decisions
	$(TARGET)/release/plan-speed --svg tests/bench-decisions/plan-speed.svg | tee tests/bench-decisions/plan-speed.md
	$(TARGET)/release/decisions --svg tests/bench-decisions/decisions.svg | tee tests/bench-decisions/decisions.md

deps: deps-build ## Install the Debian packages that the hosts need
	@missing=(); for tool in $(APT_TOOLS); do command -v "$${tool%%:*}" >/dev/null || missing+=("$${tool##*:}"); done; \
	[ $${#missing[@]} = 0 ] || { echo "installing $${missing[*]}"; apt-get update -qq && apt-get install -y -qq --no-install-recommends "$${missing[@]}"; }

deps-build:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it with rustup, then run make again."; exit 1; }
	@command -v cc >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq gcc libc6-dev; } || { echo "A C compiler is missing (for SQLite): apt-get install gcc libc6-dev"; exit 1; }

deny: ## Licences, banned and doubtful crates (needs cargo-deny)
	$(CARGO) deny check bans licenses sources

clean: ## Remove what was built
	$(CARGO) clean

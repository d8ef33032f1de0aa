# Sillage. `make help` lists what there is.
SHELL := bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help

ROOT := $(CURDIR)
TOOLS := $(ROOT)/.bin
ENGINES := $(ROOT)/.engines
SERVICES := ingest identity segmentation scoring journey-orchestrator channel-connector analytics decision control
MODULES := proto pkg $(addprefix services/,$(SERVICES)) services/sillage tests/e2e
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
# Without debugging tables: a third less to link and to ship; stack traces stay.
LDFLAGS := -s -w -X github.com/sillage-cdp/sillage/pkg/version.Version=$(VERSION)
GO ?= go
# Flags of `make bench`.
BENCH ?=

# Tools, each at one version.
GOLANGCI_VERSION := v2.15.0
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GRPC_VERSION := v1.6.2
VTPROTO_VERSION := v0.6.0
BUF_VERSION := 1.75.0

export PATH := $(TOOLS):$(PATH)
# Everything below runs without cgo; the ClickHouse library is loaded at run time.
export SILLAGE_ENGINES := $(ENGINES)

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-zA-Z0-9_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

.PHONY: demo
demo: engines ## Install what is missing, build, and run the demonstration
	@mkdir -p bin
	echo "building bin/sillage (a first build takes a few minutes)"
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./services/sillage/cmd/sillage
	exec ./bin/sillage demo

.PHONY: test
test: engines ## Test everything that needs no more than the embedded engines
	$(GO) test work

.PHONY: build
build: engines ## Build bin/sillage and one binary a service
	@mkdir -p bin
	echo "building bin/: sillage $(SERVICES)"
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./services/,$(foreach s,$(SERVICES) sillage,$(s)/cmd/$(s)))

.PHONY: engines
engines: $(ENGINES)/.clickhouse ## Fetch the embedded ClickHouse library through npm

$(ENGINES)/.clickhouse: pkg/embedded/clickhouse/engine/package.json pkg/embedded/clickhouse/engine/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not on this machine: install Node.js 20 or newer (it brings npm), or set clickhouse.addr to a ClickHouse of your own and use 'make build-only'" >&2; exit 1; }
	mkdir -p $(ENGINES)
	cp $^ $(ENGINES)/
	echo "fetching the ClickHouse library (about 150 MB, once)"
	npm ci --prefix $(ENGINES) --no-audit --no-fund --ignore-scripts
	touch $@

.PHONY: build-only
build-only: ## Build without fetching any engine
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./services/,$(foreach s,$(SERVICES) sillage,$(s)/cmd/$(s)))

.PHONY: engines-kafka
engines-kafka: $(ENGINES)/.kafka ## Fetch Apache Kafka's jars through Maven

$(ENGINES)/.kafka: pkg/kafkatest/apache/pom.xml
	@command -v mvn >/dev/null || { echo "mvn is not on this machine: install Maven and a Java 17 or newer" >&2; exit 1; }
	mvn -q -f pkg/kafkatest/apache/pom.xml dependency:copy-dependencies -DoutputDirectory=$(ENGINES)/kafka
	touch $@

.PHONY: race
race: engines ## The same tests under the race detector, in random order
	$(GO) test -race -shuffle=on work

.PHONY: test-kafka
test-kafka: engines engines-kafka ## End-to-end, crash and fault tests on real Apache Kafka
	SILLAGE_TEST_KAFKA=apache $(GO) test -count=1 -timeout 20m ./pkg/kafkatest/... ./pkg/kafka/... ./pkg/stream/... ./services/journey-orchestrator/app/...
	SILLAGE_TEST_KAFKA=apache $(GO) test -count=1 -timeout 20m -run 'Test(Path|Crash)/apache' ./tests/e2e/scenarios/...
	SILLAGE_TEST_KAFKA=apache $(GO) test -count=1 -timeout 20m -run 'TestR(3|4|6)[A-Z]/apache' ./tests/e2e/faults/...

.PHONY: clients
clients: $(ENGINES)/.clients ## Fetch the stock clients of the tests through npm

$(ENGINES)/.clients: tests/e2e/clients/package.json tests/e2e/clients/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not on this machine: install Node.js 20 or newer" >&2; exit 1; }
	mkdir -p $(ENGINES)/clients
	cp $^ $(ENGINES)/clients/
	npm ci --prefix $(ENGINES)/clients --no-audit --no-fund --ignore-scripts
	touch $@

.PHONY: test-clients
test-clients: engines clients ## Stock clients of Segment, RudderStack and Jitsu, browsers included, against a running stack
	@chromium=$$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo "no Chromium on this machine: install the package chromium" >&2; exit 1; }
	SILLAGE_TEST_CLIENTS=$(ENGINES)/clients SILLAGE_TEST_CHROMIUM=$$chromium $(GO) test -tags clients -count=1 -timeout 10m -v ./tests/e2e/clients | grep -vE '^=== '

.PHONY: faults
faults: engines engines-kafka ## Crash and fault scenarios at full length, hours in all, and a table of what they injected and found (FAULTS='TestR5|TestR11' for some)
	@export SILLAGE_FAULTS_REPORT=$$(mktemp)
	trap 'rm -f "$$SILLAGE_FAULTS_REPORT"' EXIT
	code=0
	SILLAGE_FAULTS=full SILLAGE_TEST_KAFKA=apache $(GO) test -count=1 -timeout 150m -run '$(FAULTS)' ./tests/e2e/faults/... || code=$$?
	SILLAGE_FAULTS=full SILLAGE_CRASH_ITERATIONS=300 $(GO) test -count=1 -timeout 100m -run '$(FAULTS)' ./pkg/embedded/kafka/... ./pkg/stream/... ./services/ingest/app/... ./tests/e2e/scenarios/... || code=$$?
	$(if $(FAULTS),,SILLAGE_TEST_KAFKA=apache $(GO) test -count=1 -timeout 30m -run TestCrash ./tests/e2e/scenarios/... || code=$$?)
	$(GO) run ./tests/e2e/cmd/faults "$$SILLAGE_FAULTS_REPORT" || code=$$?
	exit $$code

.PHONY: sim
sim: ## Whole stages in fake time under seeded faults (SILLAGE_SIM_RUNS of them; SILLAGE_TEST_SEED runs one again)
	@seed=$${SILLAGE_TEST_SEED:-$$(date +%s%N)}
	echo "seed $$seed and those after it"
	SILLAGE_TEST_SEED=$$seed SILLAGE_SIM_RUNS=$${SILLAGE_SIM_RUNS:-20} $(GO) test -tags synctests -count=1 -timeout 30m -run TestSimulation ./pkg/stream/

.PHONY: fuzz
fuzz: ## Fuzz every decoder of outside bytes for half a minute each
	@for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' pkg services | xargs -n1 dirname | sort -u); do
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | cut -c6-); do
	    echo "$$dir $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime 30s ./$$dir
	  done
	done

.PHONY: bench
bench: build ## Measure what BENCHMARKS.md states and print its table (BENCH='--only P5' for one figure)
	@$(GO) build -o bin/bench ./tests/e2e/cmd/bench
	./bin/bench --binary bin/sillage $(BENCH)

.PHONY: bench-parts
bench-parts: engines ## Run the benchmarks of single packages
	$(GO) test -run '^$$' -bench . -benchmem work

.PHONY: lint
lint: $(TOOLS)/golangci-lint $(TOOLS)/buf ## Lint Go and protobuf
	@for m in $(MODULES); do (cd $$m && golangci-lint run ./...) || exit 1; done
	cd proto && buf lint

.PHONY: fmt
fmt: ## Format Go
	gofmt -w $(MODULES)

.PHONY: generate
generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/protoc-gen-go-vtproto ## Regenerate code from protobuf
	cd proto && buf generate --clean

.PHONY: checkgenerate
checkgenerate: generate ## Fail if the generated code is not fresh
	@git diff --exit-code -- proto/gen || { echo "generated code is stale: run make generate and commit" >&2; exit 1; }

.PHONY: breaking
breaking: $(TOOLS)/buf ## Check the protobuf contracts against the last commit on main
	cd proto && buf breaking --against '$(ROOT)/.git#ref=HEAD,subdir=proto'

.PHONY: tidy
tidy: ## Tidy every module
	@for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) mod tidy); done
	$(GO) work sync
	for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) mod tidy); done

.PHONY: build-isolated
build-isolated: ## Build every module without the workspace, as an image does
	@for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) build ./...); done

.PHONY: clean
clean: ## Remove what was built; engines and data stay
	rm -rf bin

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) GOWORK=off GOFLAGS=-mod=mod $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(TOOLS)/protoc-gen-go:
	GOBIN=$(TOOLS) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)

$(TOOLS)/protoc-gen-go-grpc:
	GOBIN=$(TOOLS) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC_VERSION)

$(TOOLS)/protoc-gen-go-vtproto:
	GOBIN=$(TOOLS) $(GO) install github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto@$(VTPROTO_VERSION)

$(TOOLS)/buf:
	GOBIN=$(TOOLS) $(GO) install github.com/bufbuild/buf/cmd/buf@v$(BUF_VERSION)

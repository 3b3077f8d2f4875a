# Everything runs from a clean clone: what is missing is installed or built, and cached outside of the work tree.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

IMAGE   ?= rackpartition:dev
LAB     := cargo run --quiet --package e2e --bin lab --
CLUSTER ?= rackpartition
RACK    ?= r1
PROFILE ?= short
TOPOLOGY ?= three-racks
SECONDS_EACH ?= 600

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## Bring up a lab, cut the active rack off and say whether the cluster behaved
	@scripts/demo

.PHONY: test
test: ## Run every test, from formatting to one end-to-end run
	@scripts/test

.PHONY: e2e
e2e: image ## Run every scenario on the lab, the long ones too, and of the crash matrix a dozen cells
	@cargo test --locked --package e2e --test cluster -- --all

# make hands what stands on its command line down to the test.
.PHONY: matrix
matrix: image ## Run the whole crash matrix, for hours, or a part of it (CELLS="Agent InTheCut,Node Held", SHARE=2/5, FROM=31)
	@cargo test --locked --package e2e --test cluster -- crash_matrix_whole

.PHONY: bench
bench: ## Measure how fast and how precise a cut is, beside the mechanism that peers use
	@scripts/bench

.PHONY: fuzz
fuzz: ## Fuzz whatever parses what others wrote, ten minutes each (SECONDS_EACH=600)
	@scripts/fuzz $(SECONDS_EACH)

.PHONY: lab-up
lab-up: ## Bring up a lab cluster (PROFILE=short|upstream, TOPOLOGY=...: see e2e/README.md)
	@$(LAB) up --name $(CLUSTER) --profile $(PROFILE) --topology $(TOPOLOGY)

.PHONY: lab-down
lab-down: ## Remove the lab cluster, and the engine if the lab started it
	@$(LAB) down --name $(CLUSTER) --engine

.PHONY: generate
generate: ## Write CRDs and reference docs from the types
	@scripts/generate

.PHONY: image
image: ## Build the static binary and its image
	@scripts/image $(IMAGE)

.PHONY: chart
chart: generate ## Lint the Helm chart and pack it into target/chart
	@scripts/chart

.PHONY: score
score: generate ## Look at chart and agents with kube-score and kubeconform
	@scripts/score

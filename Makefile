# All commands there are. `make help` lists them; `make demo` and `make test` are the two to know.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export WAN_CACHE ?= $(HOME)/.cache/wan-operator
PYTHON ?= python3.11

# The environment is cached outside the checkout, by the content of its lock.
VENV := $(WAN_CACHE)/venv/$(shell cat requirements/dev.txt requirements/build.txt | sha256sum | cut -c1-12)
export PATH := $(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/runtime
CLUSTER := $(PYTHON) e2e/cluster
# Unit tests need no network but their own loopback: the browser drops what it loads whenever a device of the network
# comes or goes, as with each pod of the cluster beside them.
LOOPBACK := unshare $(if $(filter-out 0,$(shell id -u)),--user --map-current-user --keep-caps) --net \
  sh -c 'ip link set lo up && exec "$$@"' loopback
# The embedded cluster's programs, for tests that start one of them alone.
TOOLS = export WAN_BIN="$$($(CLUSTER) bin)" && export PATH="$$WAN_BIN:$$PATH"
# What mypy knows of unchanged files, the libraries' above all, serves every checkout.
export MYPY_CACHE_DIR ?= $(WAN_CACHE)/mypy
# What is compiled once, the assertions of tests above all, is there for every other process.
unexport PYTHONDONTWRITEBYTECODE
# Of the tests themselves, whose tensors are too small to share: they run side by side instead.
export OMP_NUM_THREADS ?= 1
# Shared with the image build: each package is downloaded once.
export UV_CACHE_DIR ?= $(WAN_CACHE)/packages/uv

.PHONY: help demo compare-four test fmt generate verify unit integration e2e images cluster-up cluster-down clean lock measure soak fuzz-api bench-serving bench-metrics bench-gpu bench-gpu-bundle

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: $(VENV)/ready ## Start the cluster, fine-tune a tiny Wan model on real clips, show the result in demo-output/
	@python e2e/demo.py

compare-four: $(VENV)/ready ## Train four Tiny candidates on the cluster, compare them, make a video by the winner
	@python e2e/compare_four.py

test: verify unit integration e2e ## Everything that CI runs

# The end-to-end tests mostly wait, for pods and for time to pass. What computes runs beside them, one part after
# another, and takes the processors that they leave.
ifneq ($(filter test,$(MAKECMDGOALS)),)
MAKEFLAGS += --jobs=2 --output-sync=target
BESIDE := nice -n 10
verify cluster-up: | $(VENV)/ready binaries
unit: | verify
integration: | unit
endif

fmt: $(VENV)/ready ## Format the code and fix what can be fixed
	ruff check --fix --quiet . && ruff format --quiet .

generate: $(VENV)/ready ## Regenerate the CRDs, docs/api.md and docs/troubleshooting.md
	python -m wan_operator.crdgen

verify: $(VENV)/ready ## Format, lint, types, import contracts, generated files unchanged
	ruff format --check .
	ruff check .
	mypy
	mypy -p cluster
	mypy e2e/*.py images/build.py images/runtime/stub_cuda.py
	mypy tests/*.py tests/gpu/*.py
	lint-imports --no-cache
	python -m wan_operator.crdgen --check

unit: $(VENV)/ready binaries ## Unit tests
	$(TOOLS) && $(LOOPBACK) $(BESIDE) pytest -n 3 --dist worksteal tests/unit

integration: $(VENV)/ready binaries ## Tests against a real API server and etcd
	$(TOOLS) && $(BESIDE) pytest -n 4 --dist worksteal tests/integration

e2e: $(VENV)/ready cluster-up ## Tests on the embedded cluster: real kubelet, pods, MinIO and Helm install
	$(TOOLS) && pytest -n 4 --maxschedchunk 1 e2e

measure: $(VENV)/ready cluster-up ## Take the figures of docs/measurements.md that need a cluster
	@cd e2e && python measure.py

soak: $(VENV)/ready binaries ## 200 videos while workers and gateways are killed at random: none may be lost
	$(TOOLS) && WAN_SOAK_VIDEOS=200 pytest -q tests/unit/serving/test_whole.py

fuzz-api: $(VENV)/ready binaries ## 10,000 odd, wrong and broken requests to a gateway: none may end in an error of its own
	@$(TOOLS) && PYTHONPATH=$(PYTHONPATH):tests python tests/api_fuzz.py

bench-serving: $(VENV)/ready binaries ## Take the figures of docs/measurements.md on gateways, workers and the queue between them
	@$(TOOLS) && PYTHONPATH=$(PYTHONPATH):tests python tests/serving_bench.py

bench-metrics: $(VENV)/ready ## Take the figures of docs/measurements.md on metrics, beside OpenCV and scikit-image
	@PYTHONPATH=$(PYTHONPATH):tests python tests/metrics_bench.py

bench-gpu: ## Take the rows of docs/measurements-gpu.md on this machine's GPU; goes on where it was cut short
	@PATH="$$($(CLUSTER) bin):$$PATH" PYTHONPATH=runtime:tests python tests/gpu/bench.py $(BENCH)

bench-gpu-bundle: $(VENV)/ready binaries ## Pack what bench-gpu needs on a GPU machine without a network
	@$(TOOLS) && PYTHONPATH=$(PYTHONPATH):tests python tests/gpu/bundle.py $(BUNDLE)

images: ## Build the images and load them into the embedded cluster
	$(PYTHON) images/build.py operator runtime

.PHONY: binaries
binaries:
	@$(CLUSTER) build

cluster-up: ## Start the embedded one-node cluster, or repair it
	@$(CLUSTER) up

cluster-down: ## Stop the embedded cluster and remove all it made
	@$(CLUSTER) down

clean: ## Remove caches of tools in this checkout, and demo-output/
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(VENV)/ready ## Resolve the newest allowed dependencies into requirements/
	uv pip compile $(LOCK) requirements/build.in -o requirements/build.txt
	uv pip compile $(LOCK) pyproject.toml --extra operator --extra gateway -o requirements/operator.txt
	uv pip compile $(LOCK) pyproject.toml --extra train -o requirements/runtime.txt
	uv pip compile $(LOCK) --no-deps requirements/cuda.in -o requirements/cuda.txt
	uv pip compile $(LOCK) pyproject.toml --extra operator --extra gateway --extra train --group dev \
	  -c requirements/operator.txt -c requirements/runtime.txt -o requirements/dev.txt
LOCK := --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# Held while it is made: two checkouts that begin at once share one.
$(VENV)/ready:
	@mkdir -p $(WAN_CACHE)/locks && exec 9>$(WAN_CACHE)/locks/venv; \
	flock --nonblock 9 || { echo "another command installs the Python environment; waiting for it"; flock 9; }; \
	if [ -e $@ ]; then exit; fi; \
	echo "installing the Python environment into $(VENV)"; \
	rm -rf $(VENV); $(PYTHON) -m venv $(VENV); \
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt; \
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode \
	  --require-hashes --build-constraints requirements/build.txt -r requirements/dev.txt; \
	touch $@

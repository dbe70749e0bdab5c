# The targets are README's commands and what CI adds to them.

GO ?= go
PYTHON ?= python3
PACKAGES ?= ./...
TARGETS ?= linux/arm64 darwin/arm64 darwin/amd64 windows/amd64

.PHONY: all train test lint race-detector purego nocgo cross generate peers race fuzz

all: test

train: ## train LeNet-5 on MNIST for five epochs
	$(GO) run ./cmd/cnnkit train lenet5 --data mnist --epochs 5 --seed 0 --out lenet5-mnist

test: ## every test
	$(GO) test ./...

lint: ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

race-detector: ## tests under the race detector
	$(GO) test -race -short -timeout 30m $(PACKAGES)

purego: ## tests without assembly
	$(GO) test -tags purego -short $(PACKAGES)

nocgo: ## tests without a C compiler
	CGO_ENABLED=0 $(GO) test -short $(PACKAGES)

cross: ## other systems: the Go kernels, no ONNX Runtime
	for target in $(TARGETS); do \
	  echo $$target; \
	  CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) vet ./... || exit 1; \
	done

generate: ## generated files again; leaves no diff
	$(GO) generate ./...

peers: ## compare live with PyTorch, torchvision and the onnx package (testdata/peers.sh says what it needs)
	PYTHON=$(PYTHON) testdata/peers.sh

race: ## race against PyTorch, ONNX Runtime and OpenVINO: MODES="train infer ort start mnist", SET=families, PRECISION=bf16 (testdata/race/race.sh says what else)
	PYTHON=$(PYTHON) testdata/race/race.sh $(MODES)

fuzz: ## every fuzz target, FUZZTIME each
	testdata/fuzz.sh $(or $(FUZZTIME),10m)

# Everything a developer or a machine does with Sheaf starts here.
# `make demo` and `make test` need Go, make and git alone.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
PREFIX  ?= /usr/local
FUZZTIME ?= 10s
BENCH   ?= .
BENCHTIME ?= 1s
HISTORIES ?= 10000
SEED    ?= 0

.PHONY: all build test race lint fuzz sim soak bench demo install cross clean

all: build

build: ## both programs, static, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

test: ## all tests; Go fetches what they need
	$(GO) test ./...

race: ## the race detector over everything that has goroutines
	.ci/race

lint: ## gofmt, vet, staticcheck, and the import rules
	.ci/lint

fuzz: ## each decoder for FUZZTIME (default 10s)
	FUZZTIME=$(FUZZTIME) .ci/fuzz

sim: ## HISTORIES simulated histories of whole devices (default 10000), from SEED (default: by the clock)
	HISTORIES=$(HISTORIES) SEED=$(SEED) .ci/sim

soak: build ## long tests: random writes, SOAK=5m long; kill -9 under load, KILLS=500 times
	.ci/soak

bench: ## benchmarks of the packages; BENCH=regexp selects, .ci/bench-system measures whole programs
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

demo: build ## two devices on this machine, live
	.ci/demo

cross: ## every platform we ship
	.ci/cross

install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 bin/* $(DESTDIR)$(PREFIX)/bin/

clean:
	rm -rf bin .bench

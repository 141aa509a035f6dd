# Every command of the house, one sentence each: make help.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check lab lab-net lab-down lab-status lab-peers lab-pki bench fuzz soak interop image deps build e2e qemu

TARGET := x86_64-unknown-linux-gnu
OUT := $(or $(CARGO_TARGET_DIR),target)/$(TARGET)
RELEASE := $(OUT)/release
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# What the laboratory and the image run.
PROGRAMS := -p appliance -p firewall -p sbc -p image-builder -p e2e
# No path of the machine that builds stays inside a program that is shipped: workspace, registry and the toolchain's source
# get names of their own. Release builds alone, so that a cargo called by hand keeps what it has built.
REMAPPED = "--remap-path-prefix=$(CURDIR)=/gatehouse", \
	"--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src=/registry", \
	"--remap-path-prefix=$(shell rustc --print sysroot)/lib/rustlib/src/rust=/rust"
REMAP = --config 'target.$(TARGET).rustflags = [$(REMAPPED)]'
export GH_BIN := $(abspath $(RELEASE))

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: image ## the appliance image in QEMU with the demonstration configuration, console on this terminal
	$(SUDO) $(RELEASE)/gatehouse-image run

test: deps check e2e qemu ## every test, from nothing, as CI runs it

check: deps ## format, lints, architecture and unit tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --config .deny.toml --offline check bans licenses sources; else echo "check: cargo-deny is not installed; the structure test checks licences"; fi
	$(CARGO) test --workspace --exclude e2e
	$(CARGO) test -p e2e --lib --test structure

e2e: build ## the product in network namespaces against real telephones, PBX and attackers
	$(CARGO) test -p e2e --no-run
	$(SUDO) env "PATH=$$PATH" GH_BIN=$(GH_BIN) $(CARGO) test -p e2e --test lab
	$(SUDO) env "PATH=$$PATH" GH_BIN=$(GH_BIN) $(CARGO) test -p e2e --test escape --test dhcp --test names -- --test-threads=1

# The kernel's own tests are here too: a check from nothing comes before there is a kernel.
qemu: image ## the image as shipped: kernel, firmware, wizard, closed from power-on, calls through the guest
	GH_COMPLETE=1 $(CARGO) test -p image-builder --test kernel --test build
	$(SUDO) env "PATH=$$PATH" GH_BIN=$(GH_BIN) $(CARGO) test -p e2e --test qemu

build: deps
	$(CARGO) build --release $(REMAP) $(PROGRAMS)

image: build ## disk image (raw, qcow2, VMDK, VHDX), EFI file and bill of materials in target/image
	$(RELEASE)/gatehouse-image kernel
	$(RELEASE)/gatehouse-image build --bin-dir $(RELEASE) --out target/image

lab: build ## firewall daemon and sandboxed SBC in network namespaces (tests/lab/gatehouse.toml)
	$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-lab up

lab-net: build ## the laboratory's four namespaces alone, for a machine between them (then make run)
	$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-lab net

lab-peers: build ## a real PBX (Kamailio) and two telephones (baresip) into the running laboratory
	$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-lab peers

lab-down: ## end the laboratory, leaving nothing behind
	@if [ -x $(RELEASE)/gatehouse-lab ]; then $(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-lab down; fi

lab-status: ## one JSON line on the laboratory; 0 = healthy
	@$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-lab status

lab-pki: build ## the laboratory's test certificates in tests/lab/pki
	$(RELEASE)/gatehouse-lab pki

bench: build ## the promised figures beside a peer, as ratios
	$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-bench all

fuzz: deps ## replay the corpora, then search (FUZZ_SECONDS per target, 60 unless told)
	tests/fuzz/run $${FUZZ_SECONDS:-60}

interop: build ## telephones of three makers, each transport by each; writes the table tests/interop.md
	python3 -m pip install --quiet --no-deps --only-binary :all: --upgrade --target target/pjsua -r tests/python.txt
	$(CARGO) test -p e2e --no-run
	$(SUDO) env "PATH=$$PATH" GH_BIN=$(GH_BIN) GATEHOUSE_INTEROP="$${GATEHOUSE_INTEROP:-all}" $(CARGO) test -p e2e --test lab telephones_of_three

soak: build ## the long runs: 100,000 random commits on real nftables, an hour of calls at 60 % load
	$(SUDO) env "PATH=$$PATH" GH_BIN=$(GH_BIN) GATEHOUSE_COMMITS=100000 $(CARGO) test --release $(REMAP) -p firewall --test ruleset_commits -- --nocapture
	$(SUDO) env GH_BIN=$(GH_BIN) $(RELEASE)/gatehouse-bench endurance

# Twice, because bookworm's qemu-system-x86 takes a newer qemu-utils away: the second pass brings the one that fits.
deps: ## the Debian packages that builds and tests need
	@for pass in 1 2; do \
	missing=$$(for package in $$(sed 's/#.*//' image/packages.txt tests/packages.txt); do dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then echo "installing" $$missing; $(SUDO) apt-get update -q; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi; done

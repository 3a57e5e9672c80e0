# SPDX-License-Identifier: GPL-2.0
# What a person types. The module itself is described in Kbuild, which the
# kernel's make prefers to this file.

SHELL := /bin/bash
DEBUG ?= 0
KCSAN ?= 0
VARIANT := $(if $(filter-out 0 n no,$(DEBUG)),debug,$(if $(filter-out 0 n no,$(KCSAN)),kcsan,normal))

.PHONY: help setup kernel module run test test-bochs fuzz migrate bench bench-model host-test coverage mutants vm-shell check clean

help:
	@echo 'make run       boot an SMP Linux guest of an unmodified QEMU on ferric, and check it'
	@echo 'make test      all tests; DEBUG=1, KCSAN=1: on those kernels; FULL=1: long runs too'
	@echo 'make test-bochs  in Bochs, with kvm-intel, APICv and without; half an hour'
	@echo 'make fuzz      KVM against ferric by random steps; SECONDS=600 SEED=1'
	@echo 'make migrate   QEMU migrates guests under load between KVM and ferric; 50 round trips each'
	@echo 'make bench     instructions of each operation, on KVM and on ferric; a table, a chart'
	@echo 'make bench-model  the time that the model takes on this machine; two minutes'
	@echo 'make setup     install what is needed (done by the others as well)'
	@echo 'make kernel    build the custom kernel; prints its directory'
	@echo 'make module    build ferric.ko; prints its path'
	@echo 'make host-test the tests of the model, on this machine'
	@echo 'make coverage  which lines of the model these tests reach'
	@echo 'make mutants   do they notice faults planted in it? SAMPLE=60 SEED=1, or ALL=1'
	@echo 'make vm-shell  a shell in the machine with ferric loaded'
	@echo 'make check     formatting and linters'
	@echo 'make clean     remove what was built (the cache outside the checkout; downloads stay)'
	@echo 'Variables: ACCEL=kvm (nested virtualization of the host instead of emulation),'
	@echo '  DEBUG=1, KCSAN=1, LINUX_SRC=, KDIR=, RUST_LIB_SRC=, FERRIC_CACHE=; see README.md.'

setup:
	@scripts/setup

kernel: setup
	@scripts/kernel --variant $(VARIANT)

module: setup
	@scripts/module --kernel $(VARIANT)

run: setup
	@scripts/guest-run

test: setup
	@scripts/test --kernel $(VARIANT) $(if $(filter-out 0 n no,$(FULL)),--full)

test-bochs: setup
	@ACCEL=bochs scripts/test --kernel $(VARIANT) selftests software reference tree

fuzz: setup
	@scripts/differential --kernel $(VARIANT) --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

migrate: setup
	@scripts/guest-migrate --kernel $(VARIANT)

bench: setup
	@scripts/bench --kernel $(VARIANT)

bench-model:
	@cargo bench --locked --bench costs

host-test:
	@cargo test --locked

coverage: setup
	@scripts/coverage

mutants: setup
	@scripts/mutants $(if $(filter-out 0 n no,$(ALL)),--all,$(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)))

vm-shell: setup
	@scripts/vm --kernel $(VARIANT) --shell

check: setup
	@scripts/check

clean:
	@scripts/clean

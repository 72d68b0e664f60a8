# Wiretape. `make demo` shows it, `make test` proves it, `make help` lists the rest.

CARGO ?= cargo
export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: help demo test lint unit freestanding loom weaken fuzz-smoke asan sanitize bench bench-quick bench-report soak build deb packages oracle

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: packages  ## the whole path on this machine: exchange, XDP, capture, host, queries
	@$(CARGO) build --release --locked --bins
	@bench/demo/demo.sh

test: packages oracle lint unit freestanding loom fuzz-smoke asan  ## everything that must hold, on this machine

lint:  ## formatting, clippy, documentation: warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --locked --quiet

unit:  ## unit, property, oracle and end-to-end tests
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test --workspace --locked

freestanding:  ## proof at link time: no std, no allocator, no panic on the way of a packet
	$(MAKE) -C core-nostd/freestanding

loom:  ## model-check the concurrent structures
	RUSTFLAGS="--cfg loom" $(CARGO) test --target-dir target/loom -p wiretape-core --release --locked \
		--test 'loom_*'

weaken:  ## prove that the models can fail: each memory ordering weakened in turn (20 to 30 minutes)
	core-nostd/weaken.sh

fuzz-smoke:  ## each fuzz target for a few seconds (skipped without a nightly compiler)
	core-nostd/fuzz/smoke.sh

asan:  ## core's tests under AddressSanitizer (skipped without a nightly compiler)
	core-nostd/sanitize.sh --core

sanitize:  ## AddressSanitizer and ThreadSanitizer over the tests, as far as the nightly toolchain has them
	core-nostd/sanitize.sh

bench: packages oracle  ## figures beside peers, in one run
	$(CARGO) bench -p wiretape-bench --locked --features iceoryx2

bench-quick: packages oracle  ## the same, short
	$(CARGO) bench -p wiretape-bench --locked --features iceoryx2 -- --quick

bench-report: packages oracle  ## run every benchmark and write docs/benchmarks.md
	bench/report.sh

soak: packages  ## the long tests, by name
	$(CARGO) build --workspace --bins --locked --release
	$(CARGO) test --workspace --locked --release -- --ignored

build: packages  ## release binaries in target/release
	$(CARGO) build --release --locked --bins

deb: build  ## a Debian package in target/deb
	docs/operating/deb.sh

oracle:  ## install itch-book, the second oracle of the books' tests, into target/oracle
	@bench/peers/install.sh

packages:
	@bench/packages.sh

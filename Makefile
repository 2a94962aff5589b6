# Two commands are all a new user needs: `make run` and `make test`.
CARGO ?= cargo

.PHONY: help run build test docs versions soak fuzz bench scale package package-test lint deny fmt ci clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Build, and serve the demo shop on port 9399
	@$(CARGO) run --locked -- demo

build: ## Build the release binary: target/release/sql-exporter
	$(CARGO) build --release --locked

test: ## Install missing servers, start private ones, run every test (plain `cargo test` needs none, and runs less)
	tests/run $(CARGO) test --locked

docs: ## Write the generated tables of docs/, the JSON Schemas in examples/schema, manual and completions in examples/shell
	python3 tests/deploy/chart_values.py
	TEST_BLESS=1 $(CARGO) test --locked --test suite -- documents::generated schema::keys schema::the_committed_schemas shell::the_manual_page

versions: ## Conformance, packs, test and check on PostgreSQL 12 to 18, MariaDB 10.5 and 11.8, MySQL 9, PgBouncer 1.26
	tests/versions/run

soak: build ## 10,000 scrapes of the release build under random faults (SOAK_SEED repeats a run)
	TEST_EXPORTER=$(CURDIR)/target/release/sql-exporter SOAK_SCRAPES=$${SOAK_SCRAPES:-10000} \
	  tests/run $(CARGO) test --locked --test suite -- soak:: --nocapture

fuzz: ## Each fuzz target for 60 s (FUZZ_SECONDS); needs a nightly compiler
	tests/fuzz/run

bench: build ## The release build beside floors in C and postgres_exporter, against its budgets (BENCH=quick leaves out growth)
	TEST_NEEDS=bench tests/run tests/bench/run.py

package: ## dist/: tar.gz, deb and rpm for amd64 and arm64 (PACKAGE_ARCHES), SBOM, SHA256SUMS
	packaging/run

package-test: ## Check dist/: lintian, rpmlint, the binaries, equal bytes, install to purge in a root folder of Debian (as root)
	packaging/test

scale: build ## Hundreds of databases and thousands of targets beside real servers, Prometheus servers and HAProxy: counts and ratios
	TEST_NEEDS=scale tests/run tests/scale/run.py

lint: ## Formatting, clippy, links in comments, shell syntax
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-A rustdoc::private_intra_doc_links -D warnings' $(CARGO) doc --quiet --locked --lib --no-deps --document-private-items
	for script in .ci/run tests/run tests/versions/run tests/fuzz/run tests/*/*.sh packaging/run packaging/test; do bash -n $$script || exit 1; done
	if command -v shellcheck >/dev/null; then shellcheck -x .ci/run tests/run tests/versions/run tests/fuzz/run examples/docker/*.sh packaging/run packaging/test packaging/*.sh; fi

deny: ## Check licences and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny check

fmt: ## Format the sources
	$(CARGO) fmt

ci: ## What the CI runs
	.ci/run

clean: ## Remove what was built
	$(CARGO) clean

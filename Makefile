# Errand. `make` builds, `make help` lists the rest. Yours to set: CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX,
# DESTDIR, WERROR=1 (warnings are errors), V=1 (show commands).

CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
INCLUDEDIR ?= $(PREFIX)/include
UNITDIR ?= $(PREFIX)/lib/systemd/system
SDKDIR ?= $(PREFIX)/share/errand
CLANG ?= clang
CLANG_FORMAT ?= clang-format-14

# --- what is built, and how ---------------------------------------------------

# A variant has a folder of its own: build/asan/errand, build/asan/obj/...
VARIANT =
B = build$(VARIANT:%=/%)
FLAGS_asan = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan = -O1 -fno-omit-frame-pointer -fsanitize=thread
FLAGS_coverage = -O0 --coverage -fprofile-update=atomic
FLAGS_fuzz = -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

PACKAGES = libmicrohttpd libcjson sqlite3 yaml-0.1 nettle libpcre2-8 libcurl
LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -ldl -lpthread -lm
# Warnings are the plain build's: sanitizers make gcc see what cannot be.
WARNINGS = $(if $(VARIANT),,-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  $(if $(filter 1,$(WERROR)),-Werror))
PLAIN := $(CC) -std=gnu11 -D_GNU_SOURCE -I. $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null) $(CPPFLAGS) \
  $(WARNINGS) $(CFLAGS)
COMPILE = $(PLAIN) $(FLAGS_$(VARIANT))
LINK = $(COMPILE) $(LDFLAGS)

FOLDERS = base store workers server
ROOMS := $(sort $(patsubst %/,%,$(dir $(wildcard $(foreach d,* */* */*/*,$(FOLDERS:%=%/$d.[ch]))))))
SOURCES := $(wildcard $(ROOMS:%=%/*.c))
GENERATED := build/gen/migrations.c build/gen/assets.c build/gen/version.c
MIGRATIONS := $(sort $(wildcard store/sql/*.sql))
objects = $(patsubst %.c,$(B)/obj/%.o,$1)
OBJECTS := $(call objects,$(SOURCES) $(GENERATED))
LIBRARY := $(B)/liberrand.a
MODULES := $(patsubst examples/%.c,build/examples/%.so,$(wildcard examples/*.c))

# TESTS says which suites `make test` builds and runs; FILTER=PATTERN picks Criterion tests by name.
TESTS = unit store sim e2e scripts fuzz crash slow leases steps workflows pools groups loops
NATIVE := $(wildcard tests/unit/tasks_for_tests.c tests/e2e/native/*.c)
TEST_MODULES := $(patsubst %.c,build/tests/%.so,$(notdir $(NATIVE)))
PROGRAMS := $(foreach s,unit store e2e,$(if $(wildcard tests/$s/*.c),$(B)/tests/$s))
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAYS := $(FUZZERS:$(B)/fuzz/%=$(B)/tests/replay_%)
WANTED := $(filter $(TESTS:%=$(B)/tests/%),$(PROGRAMS)) $(if $(filter fuzz,$(TESTS)),$(REPLAYS)) \
  $(if $(filter sim,$(TESTS)),$(B)/tests/sim) \
  $(if $(filter e2e scripts crash slow leases steps workflows pools groups loops,$(TESTS)),$(B)/errand $(MODULES)) $(if $(filter scripts,$(TESTS)),$(B)/tests/storm)
FORMATTED := $(wildcard $(foreach d,$(ROOMS) examples tools tests tests/*,$d/*.[ch]))

Q = $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$1' '$2')

.DELETE_ON_ERROR:
.SUFFIXES: # a room such as server/cli is not made of a file of that name
.PHONY: all programs fuzzers run deps test asan tsan coverage fuzz crash slow steps workflows pools groups loops sim bench \
  format format-check lint layers install uninstall clean help FORCE

all: $(B)/errand $(MODULES) ## the binary and the examples' native tasks (default)

programs: $(WANTED) $(TEST_MODULES)
fuzzers: $(FUZZERS)

# Folders are prerequisites where a file that went away matters: their times change with their entries.
$(B)/errand: $(OBJECTS) $(ROOMS)
	$(call say,LINK,$@)
	$Q$(LINK) -o $@ $(filter %.o,$^) $(LIBS)

# All but main, for the tests: each takes what it needs.
$(LIBRARY): $(filter-out %/server/cli/main.o,$(OBJECTS)) $(ROOMS)
	$(call say,AR,$@)
	$Qrm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(B)/obj/%.o: %.c $(B)/obj/.flags
	$(call say,CC,$<)
	$Qmkdir -p $(@D) && $(COMPILE) -MMD -MP -c -o $@ $<

# Objects are made again when the compiler or its flags change.
$(B)/obj/.flags: FORCE
	@pkg-config --print-errors --exists $(PACKAGES) && echo '#include <utlist.h>' | $(CC) -E -x c - >/dev/null || \
	  { echo "libraries are missing: run 'make deps'" >&2; exit 1; }
	@mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(LINK) $(LIBS))' | cmp -s - $@ || \
	  printf '%s\n' '$(subst ','\'',$(LINK) $(LIBS))' >$@

build/gen/migrations.c: tools/embed.sh store/sql $(MIGRATIONS)
	@mkdir -p $(@D) && tools/embed.sh migrations $@ $(MIGRATIONS)
build/gen/assets.c: tools/embed.sh openapi.yaml
	@mkdir -p $(@D) && tools/embed.sh assets $@ openapi=openapi.yaml
build/gen/version.c: tools/embed.sh VERSION FORCE
	@mkdir -p $(@D) && tools/embed.sh version $@

# Native tasks: plain shared objects that need the public header only, whatever the variant. They need no
# prototypes, and some of those for tests are wrong on purpose.
define native_task =
	$(call say,CC,$@)
	$Qmkdir -p $(@D) && $(filter-out -Wmissing-prototypes -Werror,$(PLAIN)) -Iworkers/sdk -fPIC -shared $(LDFLAGS) -o $@ $<
endef
build/examples/%.so: examples/%.c workers/sdk/errand_task.h
	$(native_task)
build/tests/%.so: tests/unit/%.c workers/sdk/errand_task.h
	$(native_task)
build/tests/%.so: tests/e2e/native/%.c workers/sdk/errand_task.h
	$(native_task)

# A test of two servers on one file stands between the store and its lock on that file.
WRAP_store = -Wl,--wrap=flock

# One Criterion program for tests/unit, tests/store and tests/e2e each, with the helpers of tests/*.c.
.SECONDEXPANSION:
$(PROGRAMS): $(B)/tests/%: $$(call objects,$$(filter-out $(NATIVE),$$(wildcard tests/*.c tests/$$*/*.c))) \
  $(LIBRARY) tests/$$*
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) $(WRAP_$*) -o $@ $(filter %.o %.a,$^) -lcriterion $(LIBS)
$(REPLAYS): $(B)/tests/replay_%: $(B)/obj/tests/fuzz/fuzz_%.o $(B)/obj/tools/fuzz_replay.o $(LIBRARY)
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) -o $@ $^ $(LIBS)
$(FUZZERS): $(B)/fuzz/%: $(B)/obj/tests/fuzz/fuzz_%.o $(LIBRARY)
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(B)/tests/store_bench: $(B)/obj/tests/bench/store_bench.o $(LIBRARY)
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) -o $@ $^ $(LIBS)

# Its clock is its own.
$(B)/tests/sim: $(call objects,$(wildcard tests/sim/*.c)) $(LIBRARY) tests/sim
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) -Wl,--wrap=clock_now_ms -o $@ $(filter %.o %.a,$^) $(LIBS)

$(B)/tests/storm: $(B)/obj/tests/fuzz/storm.o $(B)/obj/tests/fuzz/storm_requests.o $(LIBRARY)
	$(call say,LINK,$@)
	$Qmkdir -p $(@D) && $(LINK) -o $@ $^ $(LIBS)

-include $(wildcard $(foreach d,* */* */*/* */*/*/*,$(B)/obj/$d.d))

# --- running and testing --------------------------------------------------------

N = 12
TIME = 60
STEPS = 1000000
SEED = 1
FOR = build test
variant = @+$(MAKE) --no-print-directory VARIANT=$1

run: ## install what is missing, build, and serve examples/errand.yaml on 127.0.0.1:8080
	@tools/deps.sh build run
	@+$(MAKE) --no-print-directory all
	@tools/run.sh

deps: ## install missing Debian packages; FOR="build run test coverage fuzz bench lint", FOR=all
	@tools/deps.sh $(FOR)

test: ## all tests; TESTS="unit store sim e2e scripts fuzz crash slow leases steps workflows pools groups loops", FILTER=PATTERN, N=12 of those that kill
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs
	@FILTER='$(FILTER)' N='$(N)' tools/test.sh build $(TESTS)

# Under sanitizers the test programs of tests/e2e stay plain: what they drive is build/VARIANT/errand.
# TSan is for the server alone, as Criterion crashes under it.
asan: | $(GENERATED) ## tests under AddressSanitizer and UBSan
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=e2e
	$(call variant,asan) build/asan/errand programs TESTS='unit store sim fuzz'
	@FILTER='$(FILTER)' tools/test.sh build/asan unit store sim fuzz e2e

tsan: | $(GENERATED) ## the store under stress, and end-to-end tests, under ThreadSanitizer
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=e2e
	$(call variant,tsan) build/tsan/errand build/tsan/tests/store_bench
	@FILTER='$(FILTER)' tools/test.sh build/tsan stress e2e

coverage: | $(GENERATED) ## lines covered by the tests, a folder and a file at a time
	@tools/deps.sh build test coverage
	@+$(MAKE) --no-print-directory programs TESTS=e2e
	$(call variant,coverage) build/coverage/errand programs TESTS='unit store fuzz'
	@find build/coverage -name '*.gcda' -delete
	@tools/test.sh build/coverage unit store fuzz e2e; status=$$?; tools/coverage.sh build/coverage; exit $$status

fuzz: | $(GENERATED) ## each fuzz target with libFuzzer; TIME=60 seconds or RUNS=N, TARGET=NAME
	@tools/deps.sh build fuzz
	$(call variant,fuzz) CC='$(CLANG)' fuzzers
	@TIME='$(TIME)' RUNS='$(RUNS)' tools/fuzz.sh build/fuzz/fuzz $(TARGET)

crash: ## kill the server N=12 times and check what it promised
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=crash
	@N='$(N)' tools/test.sh build crash

steps: ## kill the server N=12 times amid native bodies that record steps
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=steps
	@N='$(N)' tools/test.sh build steps

workflows: ## kill the server N=12 times, and workers, amid workflows that suspend
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=workflows
	@N='$(N)' TIMEOUT=$${TIMEOUT:-$$(($(N) * 5 + 900))} tools/test.sh build workflows

pools: ## kill children of pools, and the server N=12 times, amid work
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=pools
	@N='$(N)' TIMEOUT=$${TIMEOUT:-$$(($(N) * 10 + 900))} tools/test.sh build pools

groups: ## kill the server N=12 times amid groups, chains, graphs and promises
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=groups
	@N='$(N)' TIMEOUT=$${TIMEOUT:-$$(($(N) * 10 + 900))} tools/test.sh build groups

loops: ## kill the server N=12 times amid loops that count on
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=loops
	@N='$(N)' TIMEOUT=$${TIMEOUT:-$$(($(N) * 5 + 900))} tools/test.sh build loops

slow: ## N=12 schedules of changes that meet on a slow disk
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=slow
	@N='$(N)' TIMEOUT=$${TIMEOUT:-$$(($(N) * 10 + 900))} tools/test.sh build slow

sim: ## the queue and the transition by chance, on a clock of their own: STEPS=1000000 SEED=1
	@tools/deps.sh build test
	@+$(MAKE) --no-print-directory programs TESTS=sim
	@build/tests/sim compare $$(($(STEPS) / 300)) $(SEED)
	@build/tests/sim $(STEPS) $(SEED)

bench: ## measure against this machine's ceilings; QUICK=1, NAME="submit run ..."
	@tools/deps.sh build bench
	@+$(MAKE) --no-print-directory all
	@python3 tests/bench/run.py $(if $(QUICK),--quick) $(NAME)

# --- keeping order ----------------------------------------------------------------

format: ## lay out all C with clang-format 14
	$(CLANG_FORMAT) -i $(FORMATTED)
format-check: ## ... or only say what would change
	@tools/deps.sh lint
	$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED)
layers: ## folders include downwards only, each outside library has one home
	@tools/layers.sh
lint: ## openapi.yaml, the man page, the unit file, the scripts, and clang-tidy on the C
	@tools/deps.sh build lint
	@+$(MAKE) --no-print-directory build/errand
	@tools/lint.sh

# --- installing ---------------------------------------------------------------------

install: all ## to PREFIX=/usr/local, below DESTDIR
	install -D -m 755 $(B)/errand $(DESTDIR)$(BINDIR)/errand
	install -D -m 644 errand.1 $(DESTDIR)$(MANDIR)/man1/errand.1
	install -D -m 644 workers/sdk/errand_task.h $(DESTDIR)$(INCLUDEDIR)/errand_task.h
	install -D -m 644 workers/sdk/errand.py $(DESTDIR)$(SDKDIR)/errand.py
	install -D -m 644 workers/sdk/errand.mjs $(DESTDIR)$(SDKDIR)/errand.mjs
	install -D -m 644 workers/sdk/errand.d.mts $(DESTDIR)$(SDKDIR)/errand.d.mts
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(BINDIR)|' contrib/errand.service >$(DESTDIR)$(UNITDIR)/errand.service
	chmod 644 $(DESTDIR)$(UNITDIR)/errand.service

uninstall: ## take away what install put there
	rm -f $(DESTDIR)$(BINDIR)/errand $(DESTDIR)$(MANDIR)/man1/errand.1 \
	  $(DESTDIR)$(INCLUDEDIR)/errand_task.h $(DESTDIR)$(SDKDIR)/errand.py \
	  $(DESTDIR)$(SDKDIR)/errand.mjs $(DESTDIR)$(SDKDIR)/errand.d.mts $(DESTDIR)$(UNITDIR)/errand.service

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

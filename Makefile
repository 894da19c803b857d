# lymer: one Makefile, no configure step. Variants build side by side under build/<variant>/.
#   make            build/lymer            make test     everything is tested       make lint    the rules
#   make run        server under .run/     make asan     tests under ASan+UBSan     make tsan    … under TSan
#   make bench      bench/budget.csv       make fuzz     FUZZ_SECONDS a target      make install PREFIX= DESTDIR=
#   make soak       crashes, for SOAK_SECONDS

VARIANT ?= release
# V=1 shows the commands.
Q := $(if $(V),,@)
SAY := @echo
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
B := build/$(VARIANT)
VERSION := $(shell cat VERSION)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

PACKAGES := libnghttp2 libzstd libdeflate zlib yaml-0.1
ifneq ($(CC),gcc)
WARN_CC := -Wno-unknown-warning-option -Wno-double-promotion # clang sees its own NAN as a float
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wundef -Wvla -Wwrite-strings \
        -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wformat=2 \
        -Wimplicit-fallthrough -Wdouble-promotion -Werror $(WARN_CC)
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
CPPFLAGS := -D_GNU_SOURCE -Isrc -I. -Iinclude -I$(B)/gen -DLYMER_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
CFLAGS_release := -O2 -g $(HARDEN)
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_fuzz := -O1 -g -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
CFLAGS_clang := -O2 -g
LDFLAGS_release := -pie -Wl,-z,relro,-z,now
CFLAGS := -std=c17 $(WARN) $(CFLAGS_$(VARIANT)) -MMD -MP -pthread $(EXTRA_CFLAGS)
LDFLAGS := $(CFLAGS_$(VARIANT)) $(LDFLAGS_$(VARIANT)) -pthread
LDLIBS := $(PKG_LIBS) -lm

SRC := $(shell find src -name '*.c' | sort)
OBJ := $(SRC:%.c=$(B)/%.o)
LIB_OBJ := $(filter-out $(B)/src/app/main.o,$(OBJ))
TEST_SRC := tests/harness.c $(shell find tests/unit -name '*.c' | sort)
TEST_OBJ := $(TEST_SRC:%.c=$(B)/%.o)
FUZZ_SRC := $(wildcard fuzz/fuzz_*.c)
FUZZ_NAMES := $(FUZZ_SRC:fuzz/%.c=%)
REPLAYS := $(FUZZ_NAMES:fuzz_%=$(B)/replay_%)
BENCHES := $(patsubst bench/%.c,$(B)/%,$(wildcard bench/bench_*.c))

.PHONY: all run test unit lint bench fuzz asan tsan crash soak clang install clean format
.DELETE_ON_ERROR:
.SECONDARY:

ifeq ($(PKG_LIBS),)
all: needs
needs:
	@tools/need build
	@$(MAKE) --no-print-directory all
else
all: build/lymer
endif

build/lymer: $(B)/lymer
	@ln -sf $(VARIANT)/lymer $@

$(B)/lymer: $(B)/src/app/main.o $(B)/lib.a
	$(SAY) "LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(B)/lib.a $(LDLIBS)

$(B)/lib.a: $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $(LIB_OBJ)

$(B)/unit: $(TEST_OBJ) $(B)/lib.a
	$(SAY) "LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(TEST_OBJ) $(B)/lib.a $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) "CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Only this file knows the commit.
$(B)/src/app/version.o: CPPFLAGS += -DLYMER_COMMIT='"$(COMMIT)"'

# The page is read by the assembler, which tells make nothing.
$(B)/src/serve/api/ui.o: $(wildcard ui/src/*)

FRAME_SRC := $(FUZZ_SRC) fuzz/replay.c $(wildcard bench/bench_*.c)
-include $(OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(FRAME_SRC:%.c=$(B)/%.d)

# --- running -----------------------------------------------------------------------------------

run:
	@tools/need build
	@$(MAKE) --no-print-directory -j2 build/lymer
	@build/lymer serve --data .run $(ARGS)

# --- testing -----------------------------------------------------------------------------------

test:
	@tools/need test
	@$(MAKE) --no-print-directory -j2 tested
tested: build/lymer $(B)/lymer $(B)/unit $(REPLAYS) build/venv/.ready tests/e2e/node/node_modules/.ready
	@VARIANT=$(VARIANT) tools/test

unit: $(B)/unit
	$(B)/unit $(T)

build/venv/.ready: tests/e2e/requirements.txt
	python3 -m venv build/venv
	build/venv/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

tests/e2e/node/node_modules/.ready: tests/e2e/node/package.json tests/e2e/node/package-lock.json
	cd tests/e2e/node && npm ci --silent --ignore-scripts
	@touch $@

# Unit tests and corpora under the sanitizers; TSan also runs the end-to-end tests.
asan:
	@tools/need fuzz
	@$(MAKE) --no-print-directory -j2 VARIANT=asan CC=clang-14 build/asan/unit $(FUZZ_NAMES:fuzz_%=build/asan/replay_%)
	@LYMER_SWEEP_SEEDS=300 NO_E2E=1 VARIANT=asan tools/test

tsan:
	@tools/need test
	@tools/need fuzz
	@$(MAKE) --no-print-directory -j2 VARIANT=tsan CC=clang-14 build/tsan/lymer build/tsan/unit \
	    $(FUZZ_NAMES:fuzz_%=build/tsan/replay_%) build/venv/.ready tests/e2e/node/node_modules/.ready
	@LYMER_SWEEP_SEEDS=300 TSAN_OPTIONS=exitcode=66 VARIANT=tsan tools/test

# A clang build of everything, for its warnings.
clang:
	@$(MAKE) --no-print-directory -j2 VARIANT=clang CC=clang-14 build/clang/lymer build/clang/unit

# 200 times kill -9 under load.
crash: build/lymer
	LYMER_KILLS=200 python3 tests/e2e/run.py kill_9

# Crashes and faults over many seeds: SOAK_SECONDS or SOAK_SEEDS, SOAK_FIRST.
soak: $(B)/unit
	@VARIANT=$(VARIANT) tools/soak

lint:
	@tools/lint

format:
	clang-format-14 -i $$(git ls-files '*.c' '*.h')

# A fuzz target is fuzz/fuzz_NAME.c with LLVMFuzzerTestOneInput; its corpus is fuzz/corpus/NAME/. `make fuzz` runs
# each under ASan+UBSan with libFuzzer; every other variant links it to a main that replays the corpus.
FUZZ_SECONDS ?= 60
fuzz:
	@tools/need fuzz
	@$(MAKE) --no-print-directory -j2 VARIANT=fuzz CC=clang-14 $(FUZZ_NAMES:%=build/fuzz/%)
	@for f in $(FUZZ_NAMES); do echo "$$f: $(FUZZ_SECONDS) s"; \
	    mkdir -p build/fuzz/found/$$f; \
	    build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=0 \
	        -artifact_prefix=build/fuzz/crash-$$f- build/fuzz/found/$$f fuzz/corpus/$${f#fuzz_} >build/fuzz/$$f.log 2>&1 \
	        || { tail -40 build/fuzz/$$f.log; exit 1; }; tail -1 build/fuzz/$$f.log; done

$(B)/replay_%: $(B)/fuzz/fuzz_%.o $(B)/fuzz/replay.o $(B)/lib.a
	$(SAY) "LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(B)/fuzz/replay.o $(B)/lib.a $(LDLIBS)
build/fuzz/fuzz_%: build/fuzz/fuzz/fuzz_%.o build/fuzz/lib.a
	clang-14 $(CFLAGS_fuzz) -fsanitize=fuzzer -pthread -o $@ $< build/fuzz/lib.a $(LDLIBS)

# --- measuring ---------------------------------------------------------------------------------

bench: build/lymer $(BENCHES) tests/e2e/node/node_modules/.ready
	python3 bench/run.py $(M)

$(B)/bench_%: $(B)/bench/bench_%.o $(B)/lib.a
	$(SAY) "LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(B)/lib.a $(LDLIBS)

# --- installing --------------------------------------------------------------------------------

PREFIX ?= /usr/local
install: build/lymer
	install -D -m 755 build/lymer $(DESTDIR)$(PREFIX)/bin/lymer

clean:
	rm -rf build .run tests/e2e/node/node_modules

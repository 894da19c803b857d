# lymer: one Makefile, no configure step. Variants build side by side under build/<variant>/.
#   make            build/lymer            make test     everything is tested       make lint    the rules
#   make run        server under .run/     make asan     tests under ASan+UBSan     make tsan    … under TSan
#   make bench      bench/budget.csv       make fuzz     FUZZ_SECONDS a target      make install PREFIX= DESTDIR=

VARIANT ?= release
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
B := build/$(VARIANT)
VERSION := $(shell cat VERSION)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

PACKAGES := libnghttp2 libzstd libdeflate zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wundef -Wvla -Wwrite-strings \
        -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wformat=2 \
        -Wimplicit-fallthrough -Wdouble-promotion -Werror
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
CPPFLAGS := -D_GNU_SOURCE -Isrc -I. -Iinclude -I$(B)/gen -DLYMER_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
CFLAGS_release := -O2 -g $(HARDEN)
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_fuzz := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
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

.PHONY: all run test unit check lint bench fuzz asan tsan install clean deps test-deps format
.DELETE_ON_ERROR:
all: build/lymer

build/lymer: $(B)/lymer
	@ln -sf $(VARIANT)/lymer $@

$(B)/lymer: $(B)/src/app/main.o $(B)/lib.a
	$(CC) $(LDFLAGS) -o $@ $< $(B)/lib.a $(LDLIBS)

$(B)/lib.a: $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $(LIB_OBJ)

$(B)/unit: $(TEST_OBJ) $(B)/lib.a
	$(CC) $(LDFLAGS) -o $@ $(TEST_OBJ) $(B)/lib.a $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

-include $(OBJ:.o=.d) $(TEST_OBJ:.o=.d)

unit: $(B)/unit
	$(B)/unit $(T)

# A fuzz target is fuzz/fuzz_NAME.c with LLVMFuzzerTestOneInput; its corpus is fuzz/corpus/NAME/. `make fuzz` runs each
# under ASan+UBSan with libFuzzer; every other variant links the same target to a main that replays the corpus.
FUZZ_SECONDS ?= 60
$(B)/replay_%: $(B)/fuzz/fuzz_%.o $(B)/fuzz/replay.o $(B)/lib.a
	$(CC) $(LDFLAGS) -o $@ $< $(B)/fuzz/replay.o $(B)/lib.a $(LDLIBS)
build/fuzz/fuzz_%: build/fuzz/fuzz/fuzz_%.o build/fuzz/lib.a
	clang-14 $(CFLAGS_fuzz) -fsanitize=fuzzer -pthread -o $@ $< build/fuzz/lib.a $(LDLIBS)
.SECONDARY:

format:
	clang-format-14 -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build .run

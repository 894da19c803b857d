#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a user types into grpcurl: list, describe, health, an Export, and what is refused.
#   grpcurl.sh PORT    takes grpcurl from $GRPCURL, the PATH or build/bin; installs it there through go when missing.
# Exit code 77: neither grpcurl nor a go that can install it is here.
set -eu
at=127.0.0.1:$1
bin=$(cd "$(dirname "$0")/../.." && pwd)/build/bin
g=${GRPCURL:-$(command -v grpcurl || echo "$bin/grpcurl")}
if ! [ -x "$g" ]; then
    command -v go >/dev/null || exit 77
    GOBIN=$bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 >/dev/null 2>&1 || exit 77
fi

say() { # prints the answer, error or not, on one line
    "$g" -plaintext "$@" 2>&1 | tr -s '\n ' ' '
}
want() { # WHAT PART ANSWER
    case $3 in
    *"$2"*) echo "ok - $1" ;;
    *) echo "not ok - $1: no '$2' in: $3"; exit 1 ;;
    esac
}

traces=opentelemetry.proto.collector.trace.v1.TraceService
list=$(say "$at" list)
for s in $traces grpc.health.v1.Health grpc.reflection.v1.ServerReflection grpc.reflection.v1alpha.ServerReflection; do
    want "list has $s" "$s" "$list"
    want "describe $s" "service" "$(say "$at" describe $s)"
done
case $list in *Metrics*) echo "not ok - list has what is not served: $list"; exit 1 ;; esac
want "describe a message" "fixed64 start_time_unix_nano = 7;" "$(say "$at" describe opentelemetry.proto.trace.v1.Span)"
want "describe a method" "rpc Export" "$(say "$at" describe $traces.Export)"
want "list methods" "$traces.Export" "$(say "$at" list $traces)"
want "describe nothing" "not found" "$(say "$at" describe no.Such | tr A-Z a-z)"
want "health of all" '"SERVING"' "$(say "$at" grpc.health.v1.Health/Check)"
want "health of one" '"SERVING"' "$(say -d "{\"service\":\"$traces\"}" "$at" grpc.health.v1.Health/Check)"
want "health of none" "NotFound" "$(say -d '{"service":"no.Such"}' "$at" grpc.health.v1.Health/Check)"
want "health list" "\"$traces\"" "$(say "$at" grpc.health.v1.Health/List)"
span='{"traceId":"AAECAwQFBgcICQoLDA0ODw==","spanId":"AAECAwQFBgc=","name":"grpcurl","startTimeUnixNano":"1700000000000000000"}'
want "export" "{}" "$(say -d "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[$span]}]}]}" "$at" $traces/Export)"
want "export of a bad span" '"rejectedSpans": "1"' \
    "$(say -d '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"no ids"}]}]}]}' "$at" $traces/Export)"
want "bad tenant" "InvalidArgument" "$(say -H 'x-tenant: a b' -d "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[$span]}]}]}" "$at" $traces/Export)"

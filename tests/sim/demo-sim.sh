#!/bin/bash
# `make demo-sim`: the thesis's decision with the real orchestrator and simulated nodes, where real hosts cannot run.
# No container is real here. DEMO_EXIT=1 ends it after the move.
set -euo pipefail
programs=${1:?usage: demo-sim.sh FOLDER_WITH_PROGRAMS}
data=$(mktemp -d)
port=$((20000 + $$ % 20000))
children=()
finish() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || :; done
    wait
    rm -rf "$data"
}
trap finish EXIT
trap 'exit 130' INT TERM

await() { # await SECONDS WHAT COMMAND…: until the command succeeds
    local tries=$(($1 * 10)) what=$2
    shift 2
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "waited in vain for $what; the orchestrator's log:" >&2; tail -20 "$data/log" >&2; exit 1; }
        sleep 0.1
    done
}

RUST_LOG=${RUST_LOG:-info} "$programs/fog-orchestrator" --data-dir "$data" --listen "127.0.0.1:$port" 2>"$data/log" &
children+=($!)
export FOG_URL=http://127.0.0.1:$port
await 20 "the orchestrator" "$programs/fogctl" nodes
FOG_TOKEN=$(cat "$data/token")
export FOG_TOKEN
"$programs/fog-sim" --url "$FOG_URL" --token "$FOG_TOKEN" &
children+=($!)
moved() { "$programs/fogctl" explain looper | grep -q 'done'; }
await 60 "the looper to be moved" moved
"$programs/fogctl" nodes
"$programs/fogctl" explain looper
"$programs/fogctl" workloads | grep -q ' C ' || { echo "the looper did not go to C" >&2; exit 1; }
[ "${DEMO_EXIT:-}" = 1 ] && exit 0
echo "It keeps running. Open $FOG_URL in a browser; end with Ctrl-C."
wait

#!/usr/bin/env bash
# What a newcomer does: both commands of the README, in a clean clone of what is committed.
#
#   scripts/fresh-clone.sh                    in a folder of its own, removed afterwards
#   scripts/fresh-clone.sh --remove-packages  after removing the Debian packages that set-up installs (root)
set -euo pipefail

packages=(rustc-web libstd-rust-web-dev-bpf llvm-22-dev wrk nghttp2-client ethtool iputils-ping iperf3)
top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [ "${1:-}" = --remove-packages ]; then
    apt-get --quiet remove --yes "${packages[@]}"
    apt-get --quiet autoremove --yes
fi

git clone --quiet "$top" "$folder/weir"
cd "$folder/weir"
time cargo xtask demo
time cargo xtask test
if [ -n "$(git status --porcelain)" ]; then
    echo "the commands changed files that are committed:" >&2
    git status --short >&2
    exit 1
fi

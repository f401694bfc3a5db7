#!/usr/bin/env bash
# A static program for x86-64 Linux, whatever its C library: target/dist-packages/microtally-VERSION-….tar.gz
# with the manual page, completions and licence. Needs rustup and musl-gcc (Debian: musl-tools).
source "$(dirname "$0")/common.sh"

target=x86_64-unknown-linux-musl
command -v musl-gcc >/dev/null || { echo "static.sh: musl-gcc is missing: apt install musl-tools" >&2; exit 1; }
rustup target add "$target"
program=$(build "$target")
if ldd "$program" 2>&1 | grep -q '=>'; then
  echo "static.sh: $program needs shared libraries" >&2
  exit 1
fi

name=microtally-$version-$target
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir "$root/$name"
install -m 755 "$program" "$root/$name/microtally"
install -m 644 README.md CHANGELOG.md LICENSE "$root/$name"
for page in "" $commands; do
  "$program" man $page > "$root/$name/microtally${page:+-$page}.1"
done
for shell in bash zsh fish; do
  "$program" completions "$shell" > "$root/$name/microtally.$shell"
done
tar -C "$root" --owner=0 --group=0 -czf "$out/$name.tar.gz" "$name"
echo "$out/$name.tar.gz"

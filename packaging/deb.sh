#!/usr/bin/env bash
# A Debian package with the program, its manual page and completions: target/dist-packages/microtally_….deb
# Needs dpkg-deb and objdump, which every Debian with a C compiler has.
source "$(dirname "$0")/common.sh"

program=$(build)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
put() { install -D -m "${3:-644}" "$1" "$root/$2"; }

put "$program" usr/bin/microtally 755
put LICENSE usr/share/doc/microtally/copyright
put CHANGELOG.md usr/share/doc/microtally/changelog
for page in "" $commands; do
  "$program" man $page > "$root/man"
  put "$root/man" "usr/share/man/man1/microtally${page:+-$page}.1"
done
for file in bash=bash-completion/completions/microtally zsh=zsh/vendor-completions/_microtally \
  fish=fish/vendor_completions.d/microtally.fish; do
  "$program" completions "${file%%=*}" > "$root/completion"
  put "$root/completion" "usr/share/${file#*=}"
done
rm "$root/man" "$root/completion"
gzip -9n "$root"/usr/share/man/man1/*.1 "$root/usr/share/doc/microtally/changelog"

# The oldest C library that has every symbol the program asks for.
libc=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
architecture=$(dpkg --print-architecture)
mkdir "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: microtally
Version: $version
Architecture: $architecture
Maintainer: ${MAINTAINER:-microtally developers <microtally@localhost>}
Installed-Size: $(du -sk "$root/usr" | cut -f 1)
Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1
Section: utils
Priority: optional
Description: count streams and files by key, live, on one machine
 Counts lines, words, fields, CSV columns and JSON values of files, pipes and
 sockets, and shows the most frequent ones: as a live table, as text or as JSON.
 Spark Streaming's DStream model as one program, without a JVM.
CONTROL
chmod 755 "$root"
dpkg-deb --root-owner-group --build "$root" "$out/microtally_${version}_$architecture.deb"

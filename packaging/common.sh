# What the packaging scripts share; they source it. Everything is written below target/dist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(grep -m1 '^version = ' Cargo.toml | cut -d '"' -f 2)
commands="words top count demo gen bench completions man"
out=target/dist-packages
mkdir -p "$out"

# The program of a target (the host's if there is none), as `dist` builds it: prints its path.
build() {
  cargo build --locked --profile dist ${1:+--target "$1"} >&2
  echo "target/${1:+$1/}dist/microtally"
}

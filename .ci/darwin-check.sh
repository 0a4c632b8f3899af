#!/usr/bin/env bash
# Type-checks for Apple Silicon (aarch64-apple-darwin) on Debian, so that no change breaks the crates where no Mac is at
# hand to notice. rustup's own toolchain brings no sources of `std`; Debian's packaged compiler does, and builds `std`
# for the target on the way. Nothing is linked and nothing is run.
#
#   .ci/darwin-check.sh FOLDER [arguments of cargo check]      e.g. .ci/darwin-check.sh target/darwin -p zmlx
#
# FOLDER (about 2.5 GB with the build) keeps the compiler from one check to the next.
set -euo pipefail

target=aarch64-apple-darwin
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift

# Unpacks the compiler, its libraries and the sources of std; nothing is installed.
fetch_compiler() {
  rm -rf "$folder/deb" "$folder/root"
  mkdir -p "$folder/deb" "$folder/root"
  apt-get update -q
  local libraries
  libraries=$(apt-cache depends --recurse --important libstd-rust-web-dev |
    grep -oE '^(libstd-rust-web-[0-9.]+|libllvm[0-9]+)$' | sort -u)
  # shellcheck disable=SC2086  # one package a word
  (cd "$folder/deb" && apt-get download -q rustc-web rust-web-src libstd-rust-web-dev $libraries)
  local deb
  for deb in "$folder"/deb/*.deb; do dpkg -x "$deb" "$folder/root"; done
  rm -rf "$folder/deb"
}

# Its shared libraries are found by this compiler only, and not by all that cargo starts.
write_rustc() {
  cat > "$folder/rustc" <<SH
#!/bin/sh
LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu exec $folder/root/usr/bin/rustc "\$@"
SH
  chmod +x "$folder/rustc"
}

# Some dependencies bring C code, which a check does not need and Linux cannot compile for a Mac: this stands in for
# the C compiler. It answers cc's two questions (`-E`: are you clang? `-?`: are you cl?) and writes empty objects.
write_cc() {
  cat > "$folder/cc" <<'SH'
#!/bin/sh
case $1 in
  -E) echo '"clang"'; exit 0 ;;
  '-?') exit 1 ;;
esac
while [ $# -gt 1 ]; do
  if [ "$1" = -o ]; then : > "$2"; fi
  shift
done
SH
  chmod +x "$folder/cc"
}

if [ ! -e "$folder/complete" ]; then
  fetch_compiler >&2
  write_rustc
  write_cc
  touch "$folder/complete"
fi
"$folder/rustc" --version

# A folder of its own: the artefacts of two compilers do not mix.
export CARGO_TARGET_DIR=$folder/target
# -Zbuild-std is the one unstable feature in use.
export RUSTC=$folder/rustc RUSTC_BOOTSTRAP=1
export CC_aarch64_apple_darwin=$folder/cc
exec cargo check -Zbuild-std=std,panic_abort --target "$target" "$@"

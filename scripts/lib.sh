# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts share: the checkout, the cache, messages, the toolchain.
# Sourced, not run.

# A make that runs these scripts must not hand its own variables and job
# server to the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
export LC_ALL=C.UTF-8

FERRIC_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${FERRIC_CACHE:-} ]]; then
	if [[ $(id -u) -eq 0 ]]; then
		FERRIC_CACHE=/var/cache/ferric
	else
		FERRIC_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ferric
	fi
fi
export FERRIC_ROOT FERRIC_CACHE

# Pinned so that the bindings are the same on every machine.
BINDGEN_VERSION=0.73.2
QEMU_MINIMUM=10.2

say() { printf '%s\n' "ferric: $*" >&2; }

die() {
	printf '%s\n' "ferric: $1" >&2
	shift
	local line
	for line in "$@"; do
		printf '        %s\n' "$line" >&2
	done
	exit 1
}

# version_ge A B: true if version A is at least B.
version_ge() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]; }

# is_slow KERNEL: true for the variants whose checkers cost several times the work.
is_slow() { [[ $1 == debug || $1 == kcsan ]]; }

# with_lock FILE: takes FILE's lock for the rest of the calling (sub)shell.
# Says so when it has to wait, since the other side may be a kernel build.
with_lock() {
	mkdir -p "$(dirname "$1")"
	exec {lock_fd}>"$1"
	if ! flock -n "$lock_fd"; then
		say "waiting for another build (${1##*/})"
		flock "$lock_fd"
	fi
}

# cargo_tool CRATE VERSION: that version of a crate's programs in the cache's
# tools/bin, built if it is not there.
cargo_tool() {
	local crate=$1 version=$2 tools=$FERRIC_CACHE/tools log=$FERRIC_CACHE/$1.log cargo
	cargo=$(command -v cargo) || die "no cargo found" "install it beside rustc"
	! grep -qxF "$crate v$version:" <<<"$("$cargo" install --list --root "$tools" 2>/dev/null)" || return 0
	say "building ${crate%-cli} $version"
	if ! "$cargo" install --locked --force --version "$version" --root "$tools" "$crate" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		die "$crate $version cannot be built" "log: $log"
	fi
}

# Finds the Rust and LLVM that build the kernel, without installing anything.
# Sets RUSTC_VERSION, LLVM_MAJOR, LLVM_DIR (empty if there is no matching
# LLVM), exports RUST_LIB_SRC and PATH. Fails with advice when something that
# scripts/setup would have installed is missing.
find_toolchain() {
	local rustc sysroot
	if [[ -r $FERRIC_CACHE/toolchain.env ]]; then
		# shellcheck source=/dev/null
		. "$FERRIC_CACHE/toolchain.env"
	fi
	rustc=${FERRIC_RUSTC:-$(command -v rustc || true)}
	[[ -n $rustc ]] || die "no rustc found" "run scripts/setup, or put one into PATH"
	local verbose
	verbose=$("$rustc" -vV)
	RUSTC_VERSION=$(sed -n 's/^release: //p' <<<"$verbose")
	LLVM_MAJOR=$(sed -n 's/^LLVM version: \([0-9]*\).*/\1/p' <<<"$verbose")
	# The compiler itself instead of rustup's proxy: the kernel calls it often.
	sysroot=$("$rustc" --print sysroot)
	if [[ -z ${RUST_LIB_SRC:-} ]]; then
		RUST_LIB_SRC=$FERRIC_CACHE/rust-src/$RUSTC_VERSION/library
		if [[ ! -d $RUST_LIB_SRC/core && -d $sysroot/lib/rustlib/src/rust/library/core ]]; then
			RUST_LIB_SRC=$sysroot/lib/rustlib/src/rust/library
		fi
	fi
	[[ -d $RUST_LIB_SRC/core ]] ||
		die "no Rust library source for rustc $RUSTC_VERSION at $RUST_LIB_SRC" \
			"run scripts/setup, or set RUST_LIB_SRC to the library directory of that version"
	LLVM_DIR=
	if [[ -x /usr/lib/llvm-$LLVM_MAJOR/bin/clang && -x /usr/lib/llvm-$LLVM_MAJOR/bin/ld.lld &&
		-x /usr/lib/llvm-$LLVM_MAJOR/bin/llvm-objcopy ]]; then
		LLVM_DIR=/usr/lib/llvm-$LLVM_MAJOR
		PATH=$LLVM_DIR/bin:$PATH
	elif [[ $(clang --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p;q') == "$LLVM_MAJOR" ]] &&
		command -v ld.lld >/dev/null; then
		LLVM_DIR=$(dirname "$(dirname "$(readlink -f "$(command -v clang)")")")
	fi
	PATH=$FERRIC_CACHE/tools/bin:$PATH
	if [[ $(dirname "$rustc") != /usr/bin ]]; then
		PATH=$sysroot/bin:$PATH
	fi
	command -v bindgen >/dev/null ||
		die "no bindgen found" "run scripts/setup, or cargo install --locked bindgen-cli --version $BINDGEN_VERSION"
	export PATH RUST_LIB_SRC
}

# Sets QEMU (the command) to a QEMU that can run nested guests, or fails.
find_qemu() {
	local version
	if [[ -n ${FERRIC_QEMU:-} ]]; then
		QEMU=$FERRIC_QEMU
	elif [[ -x $FERRIC_CACHE/qemu/bin/qemu-system-x86_64 ]]; then
		QEMU=$FERRIC_CACHE/qemu/bin/qemu-system-x86_64
	else
		QEMU=$(command -v qemu-system-x86_64 || true)
	fi
	[[ -n $QEMU ]] || die "no qemu-system-x86_64 found" "run scripts/setup, or set FERRIC_QEMU"
	version=$("$QEMU" --version | sed -n 's/.*version \([0-9.]*\).*/\1/p;q')
	version_ge "${version:-0}" "$QEMU_MINIMUM" ||
		die "$QEMU is version ${version:-unknown}; $QEMU_MINIMUM or newer is needed" \
			"older versions lose interrupts of a machine that runs guests" \
			"run scripts/setup, or set FERRIC_QEMU"
}

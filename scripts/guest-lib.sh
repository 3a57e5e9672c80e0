# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What guest-run, guest-matrix and guest-migrate share. Sourced, after lib.sh.

# prepare_boot DIR KERNEL [INIT]: fills DIR with what a guest boots from and with
# the scripts that start it inside the machine, whose kernel is KERNEL. The guests
# of a debug or KCSAN kernel run the normal one: what it checks is the host's side.
# INIT is the guest's first process: guest-init (default), or guest-load.
# Sets vm_options to what the machine needs for its guests.
prepare_boot() {
	local boot_dir=$1 init=${3:-guest-init} kernel_dir busybox root
	vm_options+=(--kernel "$2" --add-qemu --add "$boot_dir:/root/boot" --memory 2048 --ferric-args stats=1
		--env "ACCEL=${accel:-${ACCEL:-tcg}}")
	case $2 in
	normal | unpatched) kernel_dir=$("$FERRIC_ROOT/scripts/kernel" --variant "$2" | tail -n1) ;;
	debug | kcsan)
		kernel_dir=$("$FERRIC_ROOT/scripts/kernel" --variant normal | tail -n1)
		vm_options+=(--memory 3072 --env GUEST_TIMEOUT=600)
		;;
	*) kernel_dir=$2 ;;
	esac
	[[ -r $kernel_dir/bzImage ]] || die "no kernel at $kernel_dir"
	busybox=$(command -v busybox) || die "no busybox found" "run scripts/setup (package busybox-static)"

	cp "$kernel_dir/bzImage" "$boot_dir/bzImage"
	cp "$FERRIC_ROOT"/selftests/boot/{lib.sh,run-*} "$boot_dir/"

	root=$boot_dir/root
	mkdir -p "$root"/{bin,dev,proc,sys,tmp}
	if [[ $init == guest-load ]]; then
		"${CC:-cc}" -O2 -Wall -Werror -static -pthread -o "$root/init" "$FERRIC_ROOT/selftests/boot/guest-load.c"
	else
		cp "$busybox" "$root/bin/busybox"
		cp "$FERRIC_ROOT/selftests/boot/$init" "$root/init"
		chmod 755 "$root/init"
	fi
	(cd "$root" && find . -mindepth 1 -print0 | sort -z | cpio --null -o -H newc -R 0:0 --quiet) |
		gzip -9 >"$boot_dir/initrd"
	rm -rf "$root"

	as --32 -o "$boot_dir/realmode.o" "$FERRIC_ROOT/selftests/boot/realmode.S"
	ld -m elf_i386 -Ttext 0x7c00 -e start --oformat binary -o "$boot_dir/realmode.img" "$boot_dir/realmode.o"
	rm -f "$boot_dir/realmode.o"
	truncate -s 1440K "$boot_dir/realmode.img"

	# What scripts/setup has found for guests that are not our own.
	local guests=$FERRIC_CACHE/guests
	[[ ! -e $guests/memtest ]] || cp "$guests/memtest" "$boot_dir/memtest"
	if [[ -e $guests/debian-linux ]]; then
		cp "$guests/debian-linux" "$boot_dir/debian-linux"
		cat "$boot_dir/initrd" "$guests/debian-modules" >"$boot_dir/debian-initrd"
	fi
}

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Runs one guest inside the machine of scripts/vm. Sourced. The functions that
# fail say why in guest_error.
# shellcheck disable=SC2034

BOOT=/root/boot
FERRIC_STATS=${FERRIC_STATS:-/sys/kernel/debug/ferric}
GUEST_TIMEOUT=${GUEST_TIMEOUT:-120}

# now: seconds of the real-time clock. On a busy host the TSC that the machine
# has calibrated may be wrong by a factor, and with it the kernel's time.
now() {
	cat /sys/class/rtc/rtc0/since_epoch
}

# start_guest DIR MACHINE IRQCHIP CPUS CPU_FLAGS NIC KERNEL_ARGUMENTS
# Starts QEMU with the guest's files in DIR: console (the kernel's log), report
# (what guest-init says), qemu.err. Sets guest_pid.
start_guest() {
	guest_dir=$1
	mkdir -p "$guest_dir"
	mkfifo "$guest_dir/go"
	: >"$guest_dir/console"
	truncate -s 4M "$guest_dir/disk"
	guest_cpu=host
	[ "$5" = - ] || guest_cpu=host,$5
	# One core a socket: SeaBIOS's MP table, which acpi=off uses, names only the
	# first core of each.
	# The echo server is QEMU's own: a connection to that address runs cat.
	qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-machine "$2,kernel-irqchip=$3" -accel kvm -cpu "$guest_cpu" -smp "$4,sockets=$4,cores=1,threads=1" -m 160 \
		-kernel "$BOOT/bzImage" -initrd "$BOOT/initrd" \
		-append "console=ttyS0 loglevel=5 panic=-1 log_buf_len=256K $7" \
		-serial "file:$guest_dir/console" -serial stdio \
		-drive "if=none,id=disk,file=$guest_dir/disk,format=raw,cache=unsafe" \
		-device virtio-blk-pci,drive=disk \
		-netdev user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:/bin/cat \
		-device "$6,netdev=net,romfile=" \
		<>"$guest_dir/go" >"$guest_dir/report" 2>"$guest_dir/qemu.err" &
	guest_pid=$!
}

# wait_for_guest COMMAND: until the guest has given its verdict; runs COMMAND
# now and then meanwhile. Fails when QEMU ends or the time limit is reached first.
wait_for_guest() {
	guest_deadline=$(($(now) + GUEST_TIMEOUT))
	guest_polls=0
	until grep -q '^verdict ' "$guest_dir/report"; do
		if ! kill -0 "$guest_pid" 2>/dev/null; then
			wait "$guest_pid"
			guest_error="QEMU ended with status $? before the guest had reported"
			return 1
		fi
		# Both, since the clock goes on while the whole machine stands still.
		guest_polls=$((guest_polls + 1))
		if [ "$guest_polls" -ge $((GUEST_TIMEOUT * 3)) ] && [ "$(now)" -ge "$guest_deadline" ]; then
			guest_error="no verdict after $GUEST_TIMEOUT s"
			return 1
		fi
		$1
		sleep 0.2
	done
	$1
}

# read_stats FILE: copies ferric's counts of the guest's VM. Fails if the VM
# is not ferric's, or if ferric gave it no interrupt.
read_stats() {
	for guest_vm in "$FERRIC_STATS"/vm-"$guest_pid"-*; do
		if cat "$guest_vm/stats" >"$1" 2>/dev/null; then
			if grep -qE '_delivered +[1-9]' "$1"; then
				return 0
			fi
			guest_error="ferric has this QEMU's VM, and counted no interrupt of it"
			return 1
		fi
	done
	guest_error="ferric knows no VM of this QEMU"
	return 1
}

# stop_guest: lets a guest that has reported shut down, and checks that it does.
stop_guest() {
	echo go >"$guest_dir/go"
	guest_deadline=$(($(now) + 60))
	while kill -0 "$guest_pid" 2>/dev/null; do
		if [ "$(now)" -ge "$guest_deadline" ]; then
			guest_error="the guest did not reboot within 60 s"
			kill_guest
			return 1
		fi
		sleep 0.2
	done
	wait "$guest_pid"
	guest_status=$?
	if [ "$guest_status" -ne 0 ]; then
		guest_error="QEMU's exit status is $guest_status"
		return 1
	fi
}

kill_guest() {
	kill -9 "$guest_pid" 2>/dev/null
	wait "$guest_pid" 2>/dev/null
}

# show_guest: what is needed to understand a failure, as TAP diagnostics.
show_guest() {
	for show_part in report qemu.err console; do
		[ -s "$guest_dir/$show_part" ] || continue
		echo "# $show_part:"
		tr -d '\r' <"$guest_dir/$show_part" |
			tail -n 60 | sed 's/^/#   /'
	done
}

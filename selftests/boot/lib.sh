# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Runs one guest inside the machine of scripts/vm. Sourced. The functions that
# fail say why in guest_error.
# shellcheck disable=SC2034

BOOT=/root/boot
FERRIC_STATS=${FERRIC_STATS:-/sys/kernel/debug/ferric}
GUEST_TIMEOUT=${GUEST_TIMEOUT:-120}
# What emulates the machine: tcg, kvm or bochs.
ACCEL=${ACCEL:-}
# In MiB.
LINUX_MEMORY=160

# now: seconds of the real-time clock. On a busy host the TSC that the machine
# has calibrated may be wrong by a factor, and with it the kernel's time.
now() {
	cat /sys/class/rtc/rtc0/since_epoch
}

# wait_until SECONDS COMMAND [ARGUMENT...]: until COMMAND succeeds; fails when the
# time limit is reached first.
wait_until() {
	wait_deadline=$(($(now) + $1))
	wait_polls=$(($1 * 3))
	shift
	until "$@"; do
		# Both, since the clock goes on while the whole machine stands still.
		wait_polls=$((wait_polls - 1))
		if [ "$wait_polls" -le 0 ] && [ "$(now)" -ge "$wait_deadline" ]; then
			return 1
		fi
		sleep 0.2
	done
}

# run_qemu MACHINE IRQCHIP CPUS CPU_FLAGS MEMORY [ARGUMENT...]
# Becomes that QEMU. The further arguments are QEMU's, its serial ports among them.
run_qemu() {
	qemu_machine=$1,kernel-irqchip=$2 qemu_cpus=$3 qemu_cpu=host qemu_memory=$5
	[ "$4" = - ] || qemu_cpu=host,$4
	shift 5
	# One core a socket: SeaBIOS's MP table, which acpi=off uses, names only the
	# first core of each.
	exec qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-machine "$qemu_machine" -accel kvm -cpu "$qemu_cpu" \
		-smp "$qemu_cpus,sockets=$qemu_cpus,cores=1,threads=1" -m "$qemu_memory" "$@"
}

# start_qemu DIR MACHINE IRQCHIP CPUS CPU_FLAGS MEMORY ARGUMENT...
# Starts QEMU with the guest's files in DIR: console (its first serial port),
# report (its second), qemu.err. Sets guest_pid.
start_qemu() {
	guest_dir=$1 guest_cpus=$4
	shift
	mkdir -p "$guest_dir"
	mkfifo "$guest_dir/go"
	: >"$guest_dir/console"
	run_qemu "$@" -serial "file:$guest_dir/console" -serial stdio \
		<>"$guest_dir/go" >"$guest_dir/report" 2>"$guest_dir/qemu.err" &
	guest_pid=$!
}

# with_linux DIR KERNEL INITRD KERNEL_ARGUMENTS COMMAND [ARGUMENT...]
# Runs COMMAND with what QEMU needs for a Linux guest as further arguments: the
# kernel, and the disk in DIR.
with_linux() {
	linux_dir=$1 linux_kernel=$2 linux_initrd=$3 linux_arguments=$4
	shift 4
	"$@" -kernel "$linux_kernel" -initrd "$linux_initrd" \
		-append "console=ttyS0 loglevel=5 panic=-1 log_buf_len=256K $linux_arguments" \
		-drive "if=none,id=disk,file=$linux_dir/disk,format=raw,cache=unsafe" \
		-device virtio-blk-pci,drive=disk
}

# start_guest DIR MACHINE IRQCHIP CPUS CPU_FLAGS NIC KERNEL_ARGUMENTS [KERNEL INITRD]
# A Linux guest, of our own kernel or another one: the kernel's log is in the
# file console, what guest-init says in report.
start_guest() {
	mkdir -p "$1"
	truncate -s 4M "$1/disk"
	# The echo server is QEMU's own: a connection to that address runs cat.
	with_linux "$1" "${8:-$BOOT/bzImage}" "${9:-$BOOT/initrd}" "$7" \
		start_qemu "$1" "$2" "$3" "$4" "$5" "$LINUX_MEMORY" \
		-netdev user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:/bin/cat \
		-device "$6,netdev=net,romfile="
}

# start_realmode DIR MACHINE IRQCHIP CPUS CPU_FLAGS: a guest that uses nothing
# but the BIOS; see realmode.S. Its clock does not come to midnight.
start_realmode() {
	start_qemu "$@" 16 -rtc base=2000-01-01T12:00:00 \
		-drive "if=floppy,file=$BOOT/realmode.img,format=raw,snapshot=on" -boot a
}

# start_memtest DIR MACHINE IRQCHIP CPUS CPU_FLAGS: Memtest86+, which has all
# processors test memory together. It reports by its screen.
start_memtest() {
	start_qemu "$@" 32 -kernel "$BOOT/memtest" -append 'console=ttyS0,115200'
}

# watch_memtest: puts a verdict into the report as soon as the screen says that
# all processors test memory together, in the third test or a later one, and have
# found no error.
watch_memtest() {
	if grep -q 'Errors: *[1-9]' "$guest_dir/console"; then
		echo "verdict fail" >"$guest_dir/report"
	elif grep -q "SMP: ${guest_cpus}T" "$guest_dir/console" && grep -q 'Using: All Cores' "$guest_dir/console" &&
		grep -q '#[2-9] ' "$guest_dir/console"; then
		echo "verdict pass" >"$guest_dir/report"
	fi
}

guest_has_ended() {
	! kill -0 "$guest_pid" 2>/dev/null
}

guest_has_reported() {
	grep -q '^verdict ' "$guest_dir/report" && return
	$guest_watch
	guest_has_ended
}

# wait_for_guest COMMAND: until the guest has given its verdict; runs COMMAND
# now and then meanwhile. Fails when QEMU ends or the time limit is reached first.
wait_for_guest() {
	guest_watch=$1
	if ! wait_until "$GUEST_TIMEOUT" guest_has_reported; then
		guest_error="no verdict after $GUEST_TIMEOUT s"
		return 1
	fi
	if ! grep -q '^verdict ' "$guest_dir/report"; then
		wait "$guest_pid"
		guest_error="QEMU ended with status $? before the guest had reported"
		return 1
	fi
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

# end_guest: waits for QEMU's end, which must be one without an error.
end_guest() {
	if ! wait_until 60 guest_has_ended; then
		guest_error="the guest did not reboot within 60 s"
		kill_guest
		return 1
	fi
	wait "$guest_pid"
	guest_status=$?
	if [ "$guest_status" -ne 0 ]; then
		guest_error="QEMU's exit status is $guest_status"
		return 1
	fi
}

# stop_guest: lets a guest that has reported shut down, and checks that it does.
stop_guest() {
	echo go >"$guest_dir/go"
	end_guest
}

kill_guest() {
	kill -9 "$guest_pid" 2>/dev/null
	wait "$guest_pid" 2>/dev/null
}

# was_interrupted_twice FILE: does that log of a Linux kernel end in an interrupt that
# came on the first instruction of an interrupt's entry, where interrupts are
# masked? No local APIC can do that. QEMU's VMRUN delivers an injected interrupt a
# second time now and then (selftests/lib/tcg.h), and the kernel dies of it if the
# first time it was in user space, since its GS is not the kernel's yet.
was_interrupted_twice() {
	[ "$ACCEL" = tcg ] && tr -d '\r' <"$1" | awk '
		/RIP: / { at_entry = interrupt && /RIP: 0010:(asm_sysvec_[a-z_]+\+0x0|irq_entries_start\+0x[0-9a-f]*0)\// }
		/EFLAGS: / {
			if (at_entry && /EFLAGS: [0-9a-f]*[014589cd][0-9a-f][0-9a-f]$/) twice = 1
			at_entry = 0
		}
		{ interrupt = / asm_(sysvec_[a-z_]+|common_interrupt)\+0x/ }
		END { exit !twice }'
}

# show_guest: what is needed to understand a failure, as TAP diagnostics. What the
# guest's kernel complained of first, which the end of the log may only follow from,
# comes first and briefly: whoever keeps a few lines of the output learns it.
show_guest() {
	tr -d '\r' <"$guest_dir/console" |
		sed -nE '/BUG: |Oops|WARNING: |general protection|double fault|rcu: INFO|Kernel panic/,$p' |
		head -n 200 >"$guest_dir/complaint"
	if [ -s "$guest_dir/complaint" ]; then
		echo "# the guest's kernel complained first of:"
		grep -vE '(R[A-Z0-9]+|[CDEFG]S|CR[0-9]|DR[0-9]|PKRU): ?[0-9a-f]+ |Modules linked' "$guest_dir/complaint" |
			head -n 16 | sed 's/^/#   /'
		echo "# with the registers:"
		head -n 60 "$guest_dir/complaint" | sed 's/^/#   /'
	fi
	for show_part in report qemu.err console; do
		[ -s "$guest_dir/$show_part" ] || continue
		echo "# $show_part:"
		tr -d '\r' <"$guest_dir/$show_part" |
			tail -n 60 | sed 's/^/#   /'
	done
}

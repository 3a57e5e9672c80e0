// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's buses, on which the chips and user space's ioeventfds are: devices that
 * come and go while vCPUs look them up, and data that an instruction splits.
 */
#include "cpu_thread.h"
#include "harness.h"

#define DATA_GPA		0xd0000000ull	/* two pages, nothing behind them */
#define DATA_PORT		0x2000
#define NR_PORTS		32
#define DATA			0x7766554433221100ull

static int ioeventfd(struct irq_vm *ivm, u64 addr, u32 len, u32 flags,
		     u64 datamatch, int fd)
{
	struct kvm_ioeventfd args = {
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = flags,
		.datamatch = datamatch,
	};

	return __vm_ioctl(ivm->vm, KVM_IOEVENTFD, &args) ? -errno : 0;
}

/* A store of 16 bytes, which read 0x00, 0x11, ... to 0xff, by one instruction. */
static u64 guest_store16(u64 addr, u64 unused, u64 unused2)
{
	u64 data[2] = { DATA, 0xffeeddccbbaa9988ull };

	asm volatile("movups %1, %%xmm0; movups %%xmm0, %0"
		     : "=m"(*(u64 (*)[2])addr) : "m"(data) : "xmm0");
	return 0;
}

/*
 * A store across a page's end comes in two parts, whose data start anywhere in
 * the emulator's buffer.  An ioeventfd that compares data must be able to read
 * them there.
 */
TEST(datamatch_of_a_split_store)
{
	struct irq_vm *ivm = irq_vm_create(1, IRQCHIP_FULL, false);
	const gpa_t edge = DATA_GPA + PAGE_SIZE;
	struct irq_cpu *cpu = &ivm->cpu[0];
	int fd = kvm_new_eventfd();
	u32 width, len, before, i;

	irq_vm_map_mmio(ivm, DATA_GPA);
	irq_vm_map_mmio(ivm, edge);

	for (width = 2; width <= 16; width *= 2) {
		for (len = 1; len <= 8; len *= 2) {
			/* So many of the bytes lie before the edge. */
			for (before = 1; before < width; before++) {
				u32 after = width - before;
				u64 match = 0;

				for (i = 0; i < len; i++)
					match |= (u64)(0x11 * (before + i)) << 8 * i;
				TEST_ASSERT_EQ(ioeventfd(ivm, edge, len,
							 KVM_IOEVENTFD_FLAG_DATAMATCH,
							 match, fd), 0);
				if (width == 16)
					cpu_call(cpu, guest_store16, edge - before, 0, 0);
				else
					cpu_mmio_write(cpu, edge - before, width, DATA);
				/* Eight bytes at most come at once. */
				TEST_ASSERT(eventfd_take(fd, 0) == (len == min(after, 8u)),
					    "%u bytes, %u before the edge, matched with %u",
					    width, before, len);
				TEST_ASSERT_EQ(ioeventfd(ivm, edge, len,
							 KVM_IOEVENTFD_FLAG_DATAMATCH |
							 KVM_IOEVENTFD_FLAG_DEASSIGN,
							 match, fd), 0);
			}
		}
	}
	irq_vm_free(ivm);
	close(fd);
}

/* Devices come and go under vCPUs that use them and their neighbours. */
static u64 guest_access(u64 unused, u64 cpu_gva, u64 unused2)
{
	struct guest_cpu *cpu = (void *)cpu_gva;
	u64 count = 0;
	u32 port;

	while (!READ_ONCE(cpu->stop)) {
		for (port = 0; port < NR_PORTS; port++) {
			asm volatile("outb %0, %1" : : "a"((u8)port), "d"((u16)(DATA_PORT + port)));
			WRITE_ONCE(*(u32 *)(DATA_GPA + 4 * port), port);
		}
		/* The PIC, the I/O APIC and the local APIC, which stay. */
		asm volatile("outb %0, $0x21" : : "a"((u8)0xff));
		WRITE_ONCE(*(u32 *)IOAPIC_GPA, 1);
		(void)READ_ONCE(*(u32 *)(IOAPIC_GPA + IOAPIC_WINDOW));
		(void)READ_ONCE(*(u32 *)(APIC_DEFAULT_GPA + APIC_LVR));
		/* And the PIT, which comes later. */
		asm volatile("outb %0, $0x43" : : "a"((u8)0));
		WRITE_ONCE(cpu->ret, ++count);
	}
	return count;
}

#define NR_USERS		2
#define NR_ROUNDS		40

TEST(devices_come_and_go)
{
	struct irq_vm *ivm = irq_vm_create(NR_USERS, IRQCHIP_FULL, false);
	struct cpu_thread users[NR_USERS];
	int fd = kvm_new_eventfd();
	int i, round;

	irq_vm_map_mmio(ivm, DATA_GPA);
	for (i = 0; i < NR_USERS; i++)
		cpu_thread_start(&users[i], &ivm->cpu[i], guest_access, 0);
	for (i = 0; i < NR_USERS; i++)
		TEST_ASSERT(poll_until(READ_ONCE(ivm->cpu[i].guest->ret)),
			    "vCPU %d does nothing", i);
	for (round = 0; round < NR_ROUNDS; round++) {
		const u32 deassign = round & 1 ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0;
		u32 port;

		for (port = 0; port < NR_PORTS; port++) {
			TEST_ASSERT_EQ(ioeventfd(ivm, DATA_PORT + port, 1,
						 deassign | KVM_IOEVENTFD_FLAG_PIO,
						 0, fd), 0);
			TEST_ASSERT_EQ(ioeventfd(ivm, DATA_GPA + 4 * port, 4,
						 deassign, 0, fd), 0);
		}
		if (round == NR_ROUNDS / 2) {
			struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

			vm_ioctl(ivm->vm, KVM_CREATE_PIT2, &pit);
		}
	}
	for (i = 0; i < NR_USERS; i++) {
		cpu_thread_stop(&users[i]);
		cpu_thread_join(&users[i]);
	}
	irq_vm_free(ivm);
	close(fd);
}

TEST_HARNESS_MAIN

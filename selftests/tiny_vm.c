// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest VM that uses its irqchip, for module_lifetime: two vCPUs, an
 * IPI, a timer interrupt, a line of the I/O APIC and an MSI.
 *
 *   tiny_vm [-s]	run once; exit status 0 if all interrupts came
 *   tiny_vm [-s] -i	print "ready", then for each line of standard input do
 *			the same again and print "alive"; until its end
 *
 *   tiny_vm -k		keep KVM's static keys on: print "ready" and wait for
 *			the end of standard input. On KVM's own irqchip, so
 *			that ferric can be unloaded.
 *
 * -s takes a split irqchip.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>

#include "irq_vm.h"
#include "provider.h"

#define VECTOR			0x51

static void exercise(struct irq_vm *ivm, bool split)
{
	struct irq_cpu *cpu0 = &ivm->cpu[0], *cpu1 = &ivm->cpu[1];

	cpu_send_ipi(cpu0, APIC_INT_ASSERT | VECTOR, 1);
	cpu_halt(cpu1);
	cpu_expect_log(cpu1, VECTOR);

	cpu_apic_write(cpu0, APIC_LVTT, APIC_LVT_TIMER_ONESHOT | VECTOR);
	cpu_apic_write(cpu0, APIC_TMICT, 1000);
	cpu_halt(cpu0);
	cpu_expect_log(cpu0, VECTOR);

	if (!split) {
		ioapic_set_rte(ivm, 20, RTE_DEST(1) | VECTOR);
		irq_line(ivm, 20, 1);
		cpu_halt(cpu1);
		cpu_expect_log(cpu1, VECTOR);
		irq_line(ivm, 20, 0);
	}
	TEST_ASSERT_EQ(signal_msi(ivm, MSI_ADDR(1), 0, VECTOR), 1);
	cpu_halt(cpu1);
	cpu_expect_log(cpu1, VECTOR);
}

static void keep_static_keys(void)
{
	int lock = provider_begin(PROVIDER_KVM);
	struct irq_vm *ivm = irq_vm_keep_static_keys();
	char line[64];

	provider_end(lock);
	/* The terminal's, when the shell that reads it ends. */
	signal(SIGHUP, SIG_IGN);
	puts("ready");
	while (fgets(line, sizeof(line), stdin))
		;
	irq_vm_outlive_tests();
	irq_vm_free(ivm);
}

int main(int argc, char **argv)
{
	bool split = false, interactive = false, keep = false;
	struct irq_vm *ivm;
	char line[64];
	int opt;

	while ((opt = getopt(argc, argv, "sik")) != -1) {
		switch (opt) {
		case 's':
			split = true;
			break;
		case 'i':
			interactive = true;
			break;
		case 'k':
			keep = true;
			break;
		default:
			fprintf(stderr, "usage: %s [-s] [-i] | -k\n", argv[0]);
			return KSFT_FAIL;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (keep) {
		keep_static_keys();
		return KSFT_PASS;
	}

	ivm = irq_vm_create(2, split ? IRQCHIP_SPLIT : IRQCHIP_FULL, true);
	exercise(ivm, split);
	if (interactive) {
		puts("ready");
		while (fgets(line, sizeof(line), stdin)) {
			exercise(ivm, split);
			puts("alive");
		}
	}
	irq_vm_free(ivm);
	return KSFT_PASS;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What Bochs executes, for count.c.
 *
 * INSN_COUNT_PROFILE in the environment names a file that gets, at the end, how
 * often each instruction was executed between marks.
 */
#include "bochs.h"
#include "cpu/cpu.h"
#include "cpu/decoder/ia_opcodes.h"
#include "memory/memory-bochs.h"

void bx_instr_init_env(void)
{
	if (!count_start(getenv("INSN_COUNT_PROFILE")))
		abort();
	/* Bochs has several ways out. */
	atexit(count_finish);
}

uint64_t read_stack_pointer(unsigned int cpu)
{
	return BX_CPU(cpu)->gen_reg[BX_64BIT_REG_RSP].rrx;
}

bool read_stack(unsigned int cpu, uint64_t address, uint64_t *value)
{
	bx_phy_address at;

	return BX_CPU(cpu)->dbg_xlate_linear2phy(address, &at) &&
	       BX_MEM(0)->dbg_fetch_mem(BX_CPU(cpu), at, sizeof(*value), (Bit8u *)value);
}

void bx_instr_before_execution(unsigned int cpu, bxInstruction_c *insn)
{
	BX_CPU_C *processor = BX_CPU(cpu);
	uint64_t address = processor->gen_reg[BX_64BIT_REG_RIP].rrx;
	uint64_t answer;

	/* The end of a trace, which Bochs has as one more instruction, at a page's end. */
	if (insn->getIaOpcode() == BX_INSERTED_OPCODE)
		return;
	if (address >> 63) {
		if (count_is_armed && !processor->in_vmx_guest && !processor->in_svm_guest)
			count_instructions(cpu, address, 1);
		return;
	}
	if (insn->ilen() == MARK_LENGTH && insn->getIaOpcode() == BX_IA_NOP &&
	    count_mark(insn->displ32s(), processor->gen_reg[BX_64BIT_REG_RDI].rrx, &answer))
		processor->gen_reg[BX_64BIT_REG_RAX].rrx = answer;
}

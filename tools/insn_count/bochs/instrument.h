/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The instrumentation of Bochs that counts instructions (count.h): what Bochs
 * calls before each instruction.  Of all else that it could tell, nothing is used.
 */
#ifndef FERRIC_INSTRUMENT_H
#define FERRIC_INSTRUMENT_H

#include "count.h"

class bxInstruction_c;

void bx_instr_init_env(void);
void bx_instr_before_execution(unsigned int cpu, bxInstruction_c *insn);

#define BX_INSTR_INIT_ENV()			bx_instr_init_env()
/* Any instruction may count between marks, and any that is as long may be a mark. */
#define BX_INSTR_BEFORE_EXECUTION(cpu, insn)				\
do {									\
	if (count_is_armed || (insn)->ilen() == MARK_LENGTH)		\
		bx_instr_before_execution(cpu, insn);			\
} while (0)

#define BX_INSTR_EXIT_ENV()
#define BX_INSTR_INITIALIZE(...)
#define BX_INSTR_EXIT(...)
#define BX_INSTR_RESET(...)
#define BX_INSTR_HLT(...)
#define BX_INSTR_MWAIT(...)
#define BX_INSTR_DEBUG_PROMPT()
#define BX_INSTR_DEBUG_CMD(...)
#define BX_INSTR_CNEAR_BRANCH_TAKEN(...)
#define BX_INSTR_CNEAR_BRANCH_NOT_TAKEN(...)
#define BX_INSTR_UCNEAR_BRANCH(...)
#define BX_INSTR_FAR_BRANCH(...)
#define BX_INSTR_OPCODE(...)
#define BX_INSTR_EXCEPTION(...)
#define BX_INSTR_INTERRUPT(...)
#define BX_INSTR_HWINTERRUPT(...)
#define BX_INSTR_CLFLUSH(...)
#define BX_INSTR_CACHE_CNTRL(...)
#define BX_INSTR_TLB_CNTRL(...)
#define BX_INSTR_PREFETCH_HINT(...)
#define BX_INSTR_AFTER_EXECUTION(...)
#define BX_INSTR_REPEAT_ITERATION(...)
#define BX_INSTR_LIN_ACCESS(...)
#define BX_INSTR_PHY_ACCESS(...)
#define BX_INSTR_INP(...)
#define BX_INSTR_INP2(...)
#define BX_INSTR_OUTP(...)
#define BX_INSTR_WRMSR(...)
#define BX_INSTR_VMEXIT(...)

#endif /* FERRIC_INSTRUMENT_H */

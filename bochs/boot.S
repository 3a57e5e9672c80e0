/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The boot ROM of the machine that scripts/vm runs in Bochs. It is where the
 * graphics card's would be, which the BIOS calls as soon as it has described the
 * machine. Bochs has put the kernel into memory already: this enters its
 * real-mode part, as Documentation/arch/x86/boot.rst says ("Running the Kernel").
 */
#define SETUP_SEGMENT	0x1000
#define HEAP_END	0xe000

	.code16
	.section .text, "ax"
	.globl	_start
_start:
	.word	0xaa55
	.byte	(end - _start) / 512

	cli
	movw	$SETUP_SEGMENT, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movw	$HEAP_END, %sp
	ljmp	$SETUP_SEGMENT + 0x20, $0

	/* scripts/bochs makes the last byte such that all add up to 0. */
	.balign	512, 0
end:

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest in real mode, on nothing but the BIOS: its clock, disk, keyboard and
 * waiting use the 8254, the PIC pair and the lines of devices, as DOS does.
 *
 * It boots from a floppy disk, whose BIOS driver waits for IRQ 6, or is loaded
 * as a whole by a network boot program. It reports on the second serial port as
 * guest-init does.
 */
	.intel_syntax noprefix
	.code16

	.set	REPORT, 0x2f8		/* COM2 */
	.set	LINE_STATUS, REPORT + 5
	.set	PIC_DATA, 0x21
	.set	KEYBOARD_DATA, 0x60
	.set	KEYBOARD_COMMAND, 0x64
	.set	VECTOR_IRQ6, 8 + 6
	.set	SIGNATURE, 0xfe57

	.globl	start
start:
	cli
	xor	ax, ax
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	sp, offset start
	cld
	/* CS may be anything that leads here. */
	ljmp	0, offset 1f
1:	sti
	cmp	word ptr [loaded], SIGNATURE
	je	main

	/* The rest from the floppy; its interrupts are counted. */
	mov	eax, [VECTOR_IRQ6 * 4]
	mov	[bios_irq6], eax
	mov	word ptr [VECTOR_IRQ6 * 4], offset count_irq6
	mov	word ptr [VECTOR_IRQ6 * 4 + 2], 0
	mov	ax, 0x0200 + (end - rest) / 512
	mov	bx, offset rest
	mov	cx, 2
	xor	dh, dh
	int	0x13
	jc	2f
	cmp	word ptr [loaded], SIGNATURE
	jne	2f
	cmp	word ptr [irq6s], 0
	je	2f
	mov	si, offset disk_works
	call	report
	jmp	main
2:	mov	si, offset disk_fails
	call	report
	mov	si, offset verdict_fail
	call	report
	jmp	wait_and_reset

count_irq6:
	inc	word ptr cs:[irq6s]
	jmp	dword ptr cs:[bios_irq6]

/* Prints the string at SI, which ends with a zero. */
report:
	push	ax
	push	dx
	mov	dx, REPORT
1:	lodsb
	test	al, al
	jz	2f
	out	dx, al
	jmp	1b
2:	pop	dx
	pop	ax
	ret

/* Waits for a byte, and resets the machine by its keyboard controller. */
wait_and_reset:
	mov	dx, LINE_STATUS
1:	hlt
	in	al, dx
	test	al, 1
	jz	1b
	mov	al, 0xfe
	out	KEYBOARD_COMMAND, al
2:	hlt
	jmp	2b

irq6s:		.word	0
bios_irq6:	.long	0
disk_works:	.asciz	"ok - disk: read by its interrupt, IRQ 6\n"
disk_fails:	.asciz	"not ok - disk: INT 13h failed, or without IRQ 6\n"
verdict_fail:	.asciz	"verdict fail\n"

	.org	510
	.word	0xaa55
rest:

/* The clock's ticks since midnight, the lower half, in AX. */
ticks:
	push	cx
	push	dx
	xor	ah, ah
	int	0x1a
	mov	ax, dx
	pop	dx
	pop	cx
	ret

/* Sleeps until the clock has ticked BX times. */
wait_ticks:
	call	ticks
	add	bx, ax
1:	hlt
	call	ticks
	sub	ax, bx
	js	1b
	ret

/* Waits for CX:DX microseconds, which the BIOS does by the RTC's interrupt. */
sleep_by_rtc:
	mov	ah, 0x86
	int	0x15
	ret

main:
	/* IRQ 0: if it is lost this takes for ever. */
	mov	bx, 9
	call	wait_ticks
	mov	si, offset timer_works
	call	report

	/* The clock stands still while the PIC masks it; IRQ 8 goes on. */
	in	al, PIC_DATA
	or	al, 1
	out	PIC_DATA, al
	call	ticks
	mov	bx, ax
	mov	cx, 200000 >> 16
	mov	dx, 200000 & 0xffff
	call	sleep_by_rtc
	mov	si, offset rtc_fails
	jc	failed
	mov	si, offset rtc_works
	call	report
	call	ticks
	cmp	ax, bx
	mov	si, offset mask_fails
	jne	failed
	in	al, PIC_DATA
	and	al, 0xfe
	out	PIC_DATA, al
	mov	bx, 2
	call	wait_ticks
	mov	si, offset mask_works
	call	report

	/* IRQ 1: the controller is told to say that a key was pressed. */
	mov	al, 0xd2
	out	KEYBOARD_COMMAND, al
	mov	al, 0x1e
	out	KEYBOARD_DATA, al
1:	hlt
	mov	ah, 1
	int	0x16
	jz	1b
	xor	ah, ah
	int	0x16
	cmp	ax, 0x1e61
	mov	si, offset keyboard_fails
	jne	failed
	mov	si, offset keyboard_works
	call	report

	mov	si, offset verdict_pass
	call	report
	jmp	wait_and_reset

failed:
	call	report
	mov	si, offset verdict_fail
	call	report
	jmp	wait_and_reset

timer_works:	.asciz	"ok - timer: 9 ticks of the BIOS's clock, IRQ 0\n"
rtc_works:	.asciz	"ok - RTC: waited by its interrupt, IRQ 8\n"
rtc_fails:	.asciz	"not ok - RTC: INT 15h, AH=86h failed\n"
mask_works:	.asciz	"ok - mask: IRQ 0 held back, and let through again\n"
mask_fails:	.asciz	"not ok - mask: the clock went on with IRQ 0 masked\n"
keyboard_works:	.asciz	"ok - keyboard: a key by its interrupt, IRQ 1\n"
keyboard_fails:	.asciz	"not ok - keyboard: another key\n"
verdict_pass:	.asciz	"verdict pass\n"

	.org	1534
loaded:	.word	SIGNATURE
end:

// SPDX-License-Identifier: GPL-2.0

//! The guest: flat 32-bit code without paging, that does one access when it is
//! called, and logs the interrupts that it takes.
//!
//! Its memory is one piece from address 0 on. Each vCPU has a [`Call`] in it,
//! which EBX points to: user space writes there what is to be done, and finds
//! the answer when the guest comes back, by an access to [`DONE_PORT`].

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::arch::global_asm;
use std::mem::offset_of;
use std::ptr::NonNull;

pub const MEMORY_SIZE: usize = 0x1_0000;
pub const GDT: u64 = 0;
pub const GDT_SIZE: u16 = 3 * 8;
pub const IDT: u64 = 0x1000;
pub const IDT_SIZE: u16 = 256 * 8;
const CODE: u64 = 0x2000;
const CALLS: u64 = 0x6000;
const CALL_STRIDE: u64 = 0x100;
const STACKS: u64 = 0x8000;
const STACK_SIZE: u64 = 0x1000;
pub const CODE_SELECTOR: u16 = 8;
pub const DATA_SELECTOR: u16 = 16;

/// Where the guest comes back.
pub const DONE_PORT: u16 = 0xf4;
/// Where it stops to let interrupts in.
pub const STOP_PORT: u16 = 0xf5;

/// Interrupts that are logged in one call.
pub const MAX_LOG: usize = 64;

/// Vectors below are those of exceptions that this guest can have.
pub const FIRST_VECTOR: u8 = 0x10;

/// What a vCPU is to do, and what came of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// Address of the operation's code.
    entry: u32,
    /// Memory address, port or MSR.
    pub address: u32,
    pub value: [u32; 2],
    /// The exception that there was; its number.
    pub fault: u32,
    /// Where to go on after an exception, and with which stack.
    resume: u32,
    stack: u32,
    pub nmis: u32,
    /// Interrupts taken.
    pub taken: u32,
    pub log: [u8; MAX_LOG],
}

/// What the guest can do: the order is that of the code below.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Op {
    Done,
    Read8,
    Read16,
    Read32,
    Read64,
    Write8,
    Write16,
    Write32,
    Write64,
    Rdmsr,
    Wrmsr,
    In8,
    In16,
    In32,
    Out8,
    Out16,
    Out32,
    Take,
}

/// Number of bytes that the code of an operation has room for.
const OP_SIZE: u64 = 32;
/// Of the code of a vector.
const VECTOR_SIZE: u64 = 16;
/// Where the code of the operations starts, after that of the vectors.
const OPS: u64 = CODE + 256 * VECTOR_SIZE;

extern "C" {
    static live_kvm_guest_start: u8;
    static live_kvm_guest_end: u8;
}

global_asm!(
    ".pushsection .rodata.live_kvm_guest, \"a\", @progbits",
    ".code32",
    ".balign 16",
    "live_kvm_guest_start:",
    ".set n, 0",
    ".rept 256",
    ".balign 16",
    ".byte 0x68", // push
    ".long n",
    ".if n == 2",
    "jmp 2f",
    ".elseif n < {first_vector}",
    "jmp 3f",
    ".else",
    "jmp 4f",
    ".endif",
    ".set n, n + 1",
    ".endr",
    // The operations.
    ".balign 32",
    "1:",
    "out {done_port}, al",
    "jmp dword ptr [ebx + {entry}]",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "movzx eax, byte ptr [ecx]",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "movzx eax, word ptr [ecx]",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "mov eax, [ecx]",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "movq mm0, [ecx]",
    "movq [ebx + {value}], mm0",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "mov [ecx], al",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "mov [ecx], ax",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "mov [ecx], eax",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "movq mm0, [ebx + {value}]",
    "movq [ecx], mm0",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "rdmsr",
    "mov [ebx + {value}], eax",
    "mov [ebx + {value} + 4], edx",
    "jmp 1b",
    ".balign 32",
    "mov ecx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "mov edx, [ebx + {value} + 4]",
    "wrmsr",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "xor eax, eax",
    "in al, dx",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "xor eax, eax",
    "in ax, dx",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "in eax, dx",
    "mov [ebx + {value}], eax",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "out dx, al",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "out dx, ax",
    "jmp 1b",
    ".balign 32",
    "mov edx, [ebx + {address}]",
    "mov eax, [ebx + {value}]",
    "out dx, eax",
    "jmp 1b",
    ".balign 32",
    // Until one stop outside of the guest brings no interrupt. A KVM that
    // emulates many instructions at a time looks for interrupts only there.
    "sti",
    "6:",
    "mov ecx, [ebx + {taken}]",
    "out {stop_port}, al",
    "cmp ecx, [ebx + {taken}]",
    "jne 6b",
    "cli",
    "jmp 1b",
    ".balign 32",
    // An NMI.
    "2:",
    "inc dword ptr [ebx + {nmis}]",
    "add esp, 4",
    "jmp 7f",
    // An exception, with an error code below the number or without: the stack
    // is given up.
    "3:",
    "pop eax",
    "mov [ebx + {fault}], eax",
    "mov esp, [ebx + {stack}]",
    "jmp dword ptr [ebx + {resume}]",
    // An interrupt.
    "4:",
    "push eax",
    "push ecx",
    "mov ecx, [esp + 8]",
    "mov eax, [ebx + {taken}]",
    "mov [ebx + eax + {log}], cl",
    "inc eax",
    "mov [ebx + {taken}], eax",
    "cmp eax, {max_log}",
    "jb 5f",
    // A level line and an automatic EOI come again and again.
    "and dword ptr [esp + 20], ~0x200",
    "5:",
    "pop ecx",
    "pop eax",
    "add esp, 4",
    // IRET without what KVM's emulator lacks of it: NMIs stay blocked.
    "7:",
    "push [esp + 8]",
    "popfd",
    "ret 8",
    "live_kvm_guest_end:",
    ".popsection",
    ".code64",
    first_vector = const FIRST_VECTOR,
    done_port = const DONE_PORT,
    stop_port = const STOP_PORT,
    max_log = const MAX_LOG,
    entry = const offset_of!(Call, entry),
    address = const offset_of!(Call, address),
    value = const offset_of!(Call, value),
    fault = const offset_of!(Call, fault),
    resume = const offset_of!(Call, resume),
    stack = const offset_of!(Call, stack),
    nmis = const offset_of!(Call, nmis),
    taken = const offset_of!(Call, taken),
    log = const offset_of!(Call, log),
);

/// The guest's memory.
pub struct Memory(NonNull<u8>);

impl Memory {
    const LAYOUT: Layout = match Layout::from_size_align(MEMORY_SIZE, 0x1000) {
        Ok(layout) => layout,
        Err(_) => panic!("sizes"),
    };

    /// With the guest's code and tables in it.
    pub fn new() -> Self {
        // SAFETY: The layout has a size.
        let memory = unsafe { alloc_zeroed(Self::LAYOUT) };
        let memory = Self(NonNull::new(memory).expect("64 KiB"));
        // SAFETY: The two labels are the ends of the same read-only data.
        let code = unsafe {
            let start = &raw const live_kvm_guest_start;
            let end = &raw const live_kvm_guest_end;
            std::slice::from_raw_parts(start, end.offset_from(start) as usize)
        };
        memory.write(CODE, code);
        // Flat segments of 4 GiB.
        for (selector, access) in [(CODE_SELECTOR, 0x9b_u64), (DATA_SELECTOR, 0x93)] {
            let descriptor = 0x00cf_0000_0000_ffff | access << 40;
            memory.write(GDT + u64::from(selector), &descriptor.to_le_bytes());
        }
        for vector in 0..256 {
            let stub = CODE + vector * VECTOR_SIZE;
            let gate =
                stub & 0xffff | u64::from(CODE_SELECTOR) << 16 | 0x8e00 << 32 | (stub >> 16) << 48;
            memory.write(IDT + 8 * vector, &gate.to_le_bytes());
        }
        memory
    }

    /// Where user space has it.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        assert!(address as usize + bytes.len() <= MEMORY_SIZE);
        // SAFETY: Within the memory, and no vCPU runs.
        unsafe {
            let to = self.0.as_ptr().add(address as usize);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// Calls a vCPU: stores what it is to do when it runs next.
    pub fn call(&self, cpu: usize, op: Op, address: u32, value: u64) {
        let call = Call {
            entry: code(op) as u32,
            address,
            value: [value as u32, (value >> 32) as u32],
            fault: 0,
            resume: code(Op::Done) as u32,
            stack: stack(cpu) as u32,
            nmis: 0,
            taken: 0,
            log: [0; MAX_LOG],
        };
        // SAFETY: A `Call` lies there, aligned, and no vCPU runs.
        unsafe { self.at(cpu).write_volatile(call) };
    }

    /// What came of it.
    pub fn answer(&self, cpu: usize) -> Call {
        // SAFETY: As in `call`.
        unsafe { self.at(cpu).read_volatile() }
    }

    fn at(&self, cpu: usize) -> *mut Call {
        // SAFETY: Within the memory.
        unsafe { self.0.as_ptr().add(call(cpu) as usize).cast() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `new` has allocated it so.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) };
    }
}

/// Address of an operation's code.
pub fn code(op: Op) -> u64 {
    OPS + op as u64 * OP_SIZE
}

/// Address of a vCPU's [`Call`].
pub fn call(cpu: usize) -> u64 {
    CALLS + cpu as u64 * CALL_STRIDE
}

/// A vCPU's stack pointer when its stack is empty.
pub fn stack(cpu: usize) -> u64 {
    STACKS + (cpu as u64 + 1) * STACK_SIZE
}

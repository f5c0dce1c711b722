//! Whether an x86-64 instruction is a locked read-modify-write.

/// The longest instruction of x86-64, in bytes.
pub const LONGEST: usize = 15;

const LOCK: u8 = 0xF0;
/// Segment overrides, operand size, address size, `repne` and `rep`.
const PREFIXES: [u8; 10] = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3];
const REX: std::ops::RangeInclusive<u8> = 0x40..=0x4F;
const XCHG: std::ops::RangeInclusive<u8> = 0x86..=0x87;
/// The `mod` bits of a ModRM byte whose operand is a register.
const REGISTER: u8 = 0b1100_0000;

/// Returns `true` for an instruction with a lock prefix and for an `xchg` with memory, which locks without one.
pub fn locked(instruction: &[u8]) -> bool {
    let prefixes = instruction.iter().take_while(|byte| **byte == LOCK || PREFIXES.contains(byte));
    let prefixes = prefixes.count();
    let (prefixes, opcode) = instruction.split_at(prefixes);
    if prefixes.contains(&LOCK) {
        return true;
    }
    let opcode = match opcode {
        [rex, opcode @ ..] if REX.contains(rex) => opcode,
        opcode => opcode,
    };
    matches!(opcode, [xchg, modrm, ..] if XCHG.contains(xchg) && modrm & REGISTER != REGISTER)
}

#[cfg(test)]
mod tests {
    use super::locked;

    #[test]
    fn a_lock_prefix_locks_wherever_it_stands() {
        // lock add qword ptr [rip + 0x2f98], 1
        assert!(locked(&[0xF0, 0x48, 0x83, 0x05, 0x98, 0x2F, 0x00, 0x00, 0x01]));
        // lock cmpxchg [rip + 0x2f7b], rdx
        assert!(locked(&[0xF0, 0x48, 0x0F, 0xB1, 0x15, 0x7B, 0x2F, 0x00, 0x00]));
        // lock inc word ptr [rax], with the prefixes in either order
        assert!(locked(&[0x66, 0xF0, 0xFF, 0x00]));
        assert!(locked(&[0xF0, 0x66, 0xFF, 0x00]));
        // lock add dword ptr fs:[0], eax
        assert!(locked(&[0x64, 0xF0, 0x01, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00]));
    }

    #[test]
    fn xchg_locks_with_memory_and_not_between_registers() {
        // xchg [rip + 0x2f89], rcx
        assert!(locked(&[0x48, 0x87, 0x0D, 0x89, 0x2F, 0x00, 0x00]));
        // xchg [rdi], al; xchg [rbp - 8], ecx; xchg [rdi + 0x100], r9
        assert!(locked(&[0x86, 0x07]));
        assert!(locked(&[0x87, 0x4D, 0xF8]));
        assert!(locked(&[0x4C, 0x87, 0x8F, 0x00, 0x01, 0x00, 0x00]));
        // xchg rbx, rcx; xchg ax, ax
        assert!(!locked(&[0x48, 0x87, 0xD9]));
        assert!(!locked(&[0x66, 0x90]));
    }

    #[test]
    fn a_byte_that_looks_like_a_lock_further_in_is_none() {
        // mov al, 0xf0; add qword ptr [rip], 1; mov [rdi], rax; rep stosb
        assert!(!locked(&[0xB0, 0xF0]));
        assert!(!locked(&[0x48, 0x83, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01]));
        assert!(!locked(&[0x48, 0x89, 0x07]));
        assert!(!locked(&[0xF3, 0xAA]));
        // movzx eax, byte ptr [rdi + 0x87]: 0x87 is an offset.
        assert!(!locked(&[0x0F, 0xB6, 0x87, 0x87, 0x00, 0x00, 0x00]));
        assert!(!locked(&[]));
        assert!(!locked(&[0x48]));
    }
}

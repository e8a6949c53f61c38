# The guest of the KVM probe: a ROM of 64 KiB at the top of the first 4 GiB, where an x86 processor starts.
# Goes from real mode through protected mode to long mode with paging, counts down there, and writes 0x2a to
# port 0xf4, on which QEMU's isa-debug-exit ends with (0x2a << 1) | 1 = 85. Each stage says 1, 2, 3, 4 on port 0xe9.
# A KVM that cannot run ordinary guests hangs at the first write to cr0.
#
# Its bytes stand in kvm_probe_rom.py, made by
#   as --64 -o rom.o kvm_probe_rom.S && ld -m elf_x86_64 -e 0 -Ttext=0 --oformat binary -o rom.bin rom.o

        .set    rom_at, 0xffff0000
        .set    pml4, 0x1000            # one entry: the first 512 GiB
        .set    pdpt, 0x2000            # two entries: the first GiB, and the fourth, where the ROM lies
        .set    pages_first, 0x3000     # 512 pages of 2 MiB, present, writable, large
        .set    pages_rom, 0x4000
        .set    countdown, 100000

        .code16
        .org    0
real_mode:
        cli
        mov     $'1', %al
        outb    %al, $0xe9
        lgdtl   %cs:gdt_pointer
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmpl   $8, $(protected_mode + rom_at)

        .code32
protected_mode:
        mov     $16, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x8000, %esp
        mov     $'2', %al
        outb    %al, $0xe9

        mov     $pml4, %edi
        xor     %eax, %eax
        mov     $0x1000, %ecx
        rep     stosl
        movl    $(pdpt + 3), pml4
        movl    $(pages_first + 3), pdpt
        movl    $(pages_rom + 3), pdpt + 3 * 8
        mov     $pages_first, %edi
        mov     $0x83, %eax
        mov     $512, %ecx
1:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        mov     $pages_rom, %edi
        mov     $0xc0000083, %eax
        mov     $512, %ecx
2:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    2b

        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        or      $0x20, %eax             # physical address extension
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx       # extended features: long mode
        rdmsr
        or      $0x100, %eax
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax       # paging
        mov     %eax, %cr0
        ljmp    $24, $(long_mode + rom_at)

        .code64
long_mode:
        mov     $'3', %al
        outb    %al, $0xe9
        mov     $countdown, %rcx
3:      dec     %rcx
        jnz     3b
        mov     $'4', %al
        outb    %al, $0xe9
        mov     $0x2a, %al
        mov     $0xf4, %dx
        outb    %al, %dx
4:      hlt
        jmp     4b

        .balign 8, 0
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      # 8: code of 32 bits
        .quad   0x00cf92000000ffff      # 16: all of memory
        .quad   0x00af9a000000ffff      # 24: code of 64 bits
gdt_pointer:
        .word   31
        .long   gdt + rom_at

        .org    0xfff0
        .code16
        jmp     real_mode
        .org    0xffff
        .byte   0

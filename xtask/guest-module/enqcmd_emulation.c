// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * MOVDIR64B, ENQCMD and ENQCMDS for a guest CPU that lacks them: QEMU's TCG raises #UD, and this module does what the
 * instruction would have done.
 *
 * Owns: decoding the three instructions, the PASID that ENQCMD adds, and the zero flag. The 64 bytes reach the device as eight
 * stores to one slot of the portal; an 8-byte load of that slot then says whether they were accepted (0) or not (1). One lock
 * keeps the stores of different CPUs apart. Also tells the kernel that the CPU has ENQCMD, so it must be loaded before idxd.
 *
 * Refuses: what the instruction would refuse (misaligned destination, no PASID), and a source or destination that is not
 * resident. The instruction is then as undefined as it was before: a process gets SIGILL.
 *
 * Built without kernel headers, because the mirror keeps them for the newest kernels only. What this file needs of a kernel
 * comes from that kernel itself: the frame of a module from its idxd.ko at build time (xtask/src/emulation.rs, which also gives the
 * macros below), offsets within structures from its BTF as parameters, and one address from its table of symbols (xtask/guest/src/emulation.rs, which also checks the
 * layouts that are written down here).
 */
#include <stdbool.h>
#include <stdint.h>

/* The kernel's own, exported to GPL modules. */
extern int register_die_notifier(void *block);
extern int unregister_die_notifier(void *block);
extern long copy_from_user_nofault(void *to, const void *from, unsigned long bytes);
extern long copy_from_kernel_nofault(void *to, const void *from, unsigned long bytes);
extern const char param_ops_uint[];
extern const char param_ops_ulong[];
extern uint8_t boot_cpu_data[];

#define NOTIFY_DONE 0
#define NOTIFY_STOP 0x8001
#define DIE_TRAP 8
#define TRAP_INVALID_OPCODE 6
#define PASID_INVALID 0xffffffffu
/* CPUID.7.0:ECX is word 16 of the kernel's capabilities. */
#define WORD_7_ECX (16 * 4)
#define HAS_MOVDIR64B (1u << 28)
#define HAS_ENQCMD (1u << 29)
#define FLAG_CARRY_PARITY_AUXILIARY_SIGN_OVERFLOW 0x895ul
#define FLAG_ZERO 0x40ul
#define FLAG_TRAP 0x100ul
#define SLOT_BYTES 64
#define LONGEST_INSTRUCTION 15

struct pt_regs {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

struct die_args {
	struct pt_regs *regs;
	const char *text;
	long error;
	int trap;
	int signal;
};

struct notifier_block {
	int (*call)(struct notifier_block *block, unsigned long value, void *data);
	void *next;
	int priority;
};

struct kernel_param {
	const char *name;
	void *module;
	const void *operations;
	uint16_t permissions;
	int8_t level;
	uint8_t flags;
	void *value;
};

#define MODINFO(id, text) static const char id[] __attribute__((section(".modinfo"), used, aligned(1))) = text
#define PARAMETER(variable, mode) PARAMETER_OF(uint, unsigned int, variable, mode)
#define PARAMETER_OF(kind, type, variable, mode) \
	static type variable; \
	static const struct kernel_param parameter_##variable __attribute__((section("__param"), used, aligned(8))) = { \
		.name = #variable, .module = &__this_module, .operations = param_ops_##kind, .permissions = mode, \
		.level = -1, .value = &variable, \
	}

int init_module(void);
void cleanup_module(void);

/* The kernel's `struct module`, of which a module file gives a name and two functions. */
static struct {
	char head[NAME_AT];
	char name[INIT_AT - NAME_AT];
	int (*init)(void);
	char between[EXIT_AT - INIT_AT - 8];
	void (*exit)(void);
	char rest[MODULE_BYTES - EXIT_AT - 8];
} __attribute__((packed)) __this_module __attribute__((section(".gnu.linkonce.this_module"), used, aligned(64))) = {
	.name = "enqcmd_emulation", .init = init_module, .exit = cleanup_module,
};

MODINFO(license, "license=Dual MIT/GPL");
MODINFO(description, "description=MOVDIR64B, ENQCMD and ENQCMDS for dsascope's testbed");
MODINFO(name, "name=enqcmd_emulation");
MODINFO(magic, "vermagic=" VERMAGIC);

/* Offsets in this kernel's structures. */
PARAMETER(task_mm, 0444);
PARAMETER(task_pagefault_disabled, 0444);
PARAMETER(mm_iommu_mm, 0444);
PARAMETER(iommu_mm_pasid, 0444);
PARAMETER(cpu_capabilities, 0444);
/* Where uprobe_post_sstep_notifier is, which is not exported. */
PARAMETER_OF(ulong, unsigned long, uprobe_stepped, 0400);
/* Instructions emulated and refused. */
PARAMETER(emulated, 0444);
PARAMETER(refused, 0444);

static uint8_t portals_busy;

enum instruction { MOVDIR64B = 0x66, ENQCMD = 0xf2, ENQCMDS = 0xf3 };

struct decoded {
	enum instruction instruction;
	uint64_t destination, source;
	unsigned int bytes;
};

static uint8_t *current_task(void)
{
	uint8_t *task;

	asm volatile("movq %%gs:" CURRENT ", %0" : "=r"(task));
	return task;
}

/* A general register by its number in instructions. */
static uint64_t *general(struct pt_regs *regs, unsigned int number)
{
	uint64_t *all[16] = {
		&regs->ax, &regs->cx, &regs->dx, &regs->bx, &regs->sp, &regs->bp, &regs->si, &regs->di,
		&regs->r8, &regs->r9, &regs->r10, &regs->r11, &regs->r12, &regs->r13, &regs->r14, &regs->r15,
	};

	return all[number & 15];
}

static int64_t displacement(const uint8_t *code, unsigned int bytes)
{
	if (bytes == 1)
		return (int8_t)code[0];
	return (int32_t)(code[0] | code[1] << 8 | code[2] << 16 | (uint32_t)code[3] << 24);
}

/*
 * 66/F2/F3 [REX] 0F 38 F8 /r with a memory operand. `code` has `length` readable bytes and zeros up to 16, which is longer
 * than any instruction; false when it is another instruction or goes on past what is readable.
 */
static bool decode(const uint8_t *code, unsigned int length, struct pt_regs *regs, struct decoded *out)
{
	unsigned int at = 0, prefix = 0, rex = 0, mode, rm, shift = 0;
	uint64_t address;

	for (; at < LONGEST_INSTRUCTION; at++) {
		if (code[at] == 0xf2 || code[at] == 0xf3)
			prefix = code[at];
		else if (code[at] == 0x66 && !prefix)
			prefix = 0x66;
		else if (code[at] != 0x66)
			break;
	}
	/* Prefixes, REX, opcode, ModRM, SIB and displacement end within 16 bytes from here on. */
	if (!prefix || at > 4)
		return false;
	if ((code[at] & 0xf0) == 0x40)
		rex = code[at++];
	if (code[at] != 0x0f || code[at + 1] != 0x38 || code[at + 2] != 0xf8)
		return false;
	at += 3;
	mode = code[at] >> 6;
	out->destination = *general(regs, (code[at] >> 3 & 7) | (rex & 4) << 1);
	rm = code[at++] & 7;
	if (mode == 3)
		return false;
	if (mode)
		shift = mode == 1 ? 1 : 4;
	if (rm == 4) {
		uint8_t sib = code[at++];
		unsigned int index = (sib >> 3 & 7) | (rex & 2) << 2, base = sib & 7;

		address = index == 4 ? 0 : *general(regs, index) << (sib >> 6);
		if (base == 5 && !mode)
			shift = 4;
		else
			address += *general(regs, base | (rex & 1) << 3);
	} else if (rm == 5 && !mode) {
		shift = 4;
		address = regs->ip + at + shift;
	} else {
		address = *general(regs, rm | (rex & 1) << 3);
	}
	if (shift)
		address += displacement(code + at, shift);
	out->instruction = prefix;
	out->source = address;
	out->bytes = at + shift;
	return out->bytes <= length;
}

/* One 8-byte access of user memory; false when it faults. */
static bool user_store(uint64_t to, uint64_t value)
{
	int failed = 0;

	asm volatile("stac\n1:\tmovq %2, (%1)\n\tjmp 3f\n2:\tmovl $1, %0\n3:\tclac\n"
		     ".pushsection __ex_table, \"a\"\n.balign 4\n.long 1b - ., 2b - ., 1\n.popsection"
		     : "+r"(failed) : "r"(to), "r"(value) : "memory", "cc");
	return !failed;
}

static bool user_load(uint64_t from, uint64_t *value)
{
	int failed = 0;

	asm volatile("stac\n1:\tmovq (%2), %1\n\tjmp 3f\n2:\tmovl $1, %0\n3:\tclac\n"
		     ".pushsection __ex_table, \"a\"\n.balign 4\n.long 1b - ., 2b - ., 1\n.popsection"
		     : "+r"(failed), "=&r"(*value) : "r"(from) : "memory", "cc");
	return !failed;
}

/* What ENQCMD takes from IA32_PASID. */
static uint32_t pasid_of(uint8_t *task)
{
	uint8_t *mm = *(uint8_t **)(task + task_mm);
	uint8_t *iommu_mm = mm ? *(uint8_t *volatile *)(mm + mm_iommu_mm) : 0;

	return iommu_mm ? *(uint32_t *)(iommu_mm + iommu_mm_pasid) : PASID_INVALID;
}

/* Sends the 64 bytes; `status` is what a load of the slot says then. */
static bool send(uint64_t slot, const uint64_t *words, bool user, uint8_t *task, uint64_t *status)
{
	unsigned int *faults_off = (unsigned int *)(task + task_pagefault_disabled);
	bool sent = true;
	int i;

	while (__atomic_exchange_n(&portals_busy, 1, __ATOMIC_ACQUIRE))
		__builtin_ia32_pause();
	if (user) {
		++*(volatile unsigned int *)faults_off;
		for (i = 0; i < 8 && sent; i++)
			sent = user_store(slot + 8 * i, words[i]);
		sent = sent && user_load(slot, status);
		--*(volatile unsigned int *)faults_off;
	} else {
		for (i = 0; i < 8; i++)
			((volatile uint64_t *)slot)[i] = words[i];
		*status = *(volatile uint64_t *)slot;
	}
	__atomic_store_n(&portals_busy, 0, __ATOMIC_RELEASE);
	return sent;
}

static bool emulate(struct pt_regs *regs, const struct decoded *decoded, bool user)
{
	uint8_t *task = current_task();
	uint64_t words[8], status = 0;

	if (decoded->destination % SLOT_BYTES)
		return false;
	if (user) {
		/* Neither address may lead into the kernel. */
		if ((int64_t)decoded->destination < 0 ||
		    copy_from_user_nofault(words, (const void *)decoded->source, sizeof(words)))
			return false;
	} else if (copy_from_kernel_nofault(words, (const void *)decoded->source, sizeof(words))) {
		return false;
	}
	if (decoded->instruction == ENQCMD) {
		uint32_t pasid = pasid_of(task);

		if (pasid == PASID_INVALID)
			return false;
		words[0] = (words[0] & ~0xfffffffful) | pasid;
	}
	if (!send(decoded->destination, words, user, task, &status))
		return false;
	if (decoded->instruction != MOVDIR64B) {
		regs->flags &= ~(FLAG_CARRY_PARITY_AUXILIARY_SIGN_OVERFLOW | FLAG_ZERO);
		if (status)
			regs->flags |= FLAG_ZERO;
	}
	regs->ip += decoded->bytes;
	return true;
}

static int on_trap(struct notifier_block *block, unsigned long value, void *data)
{
	struct die_args *args = data;
	struct pt_regs *regs = args->regs;
	uint8_t code[32] = { 0 };
	struct decoded decoded;
	bool user = regs->cs & 3;
	unsigned int length = LONGEST_INSTRUCTION;

	(void)block;
	if (value != DIE_TRAP || args->trap != TRAP_INVALID_OPCODE)
		return NOTIFY_DONE;
	/* Fewer bytes where the next page is not there. */
	while (length && (user ? copy_from_user_nofault(code, (const void *)regs->ip, length)
			       : copy_from_kernel_nofault(code, (const void *)regs->ip, length)))
		length--;
	if (!decode(code, length, regs, &decoded))
		return NOTIFY_DONE;
	/* Interrupts are off here, so the process is not moved and not preempted. */
	if (!emulate(regs, &decoded, user)) {
		__atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
		return NOTIFY_DONE;
	}
	__atomic_fetch_add(&emulated, 1, __ATOMIC_RELAXED);
	/* A uprobe has the instruction run alone and waits for the trap behind it. That would come one instruction too late. */
	if (user && regs->flags & FLAG_TRAP)
		((int (*)(struct pt_regs *))uprobe_stepped)(regs);
	return NOTIFY_STOP;
}

static struct notifier_block notifier = { .call = on_trap, .priority = 100 };

int init_module(void)
{
	/* Without offsets there is nothing to work with: -EINVAL. */
	if (!task_mm || !task_pagefault_disabled || !mm_iommu_mm || !cpu_capabilities || !uprobe_stepped)
		return -22;
	*(uint32_t *)(boot_cpu_data + cpu_capabilities + WORD_7_ECX) |= HAS_MOVDIR64B | HAS_ENQCMD;
	return register_die_notifier(&notifier);
}

void cleanup_module(void)
{
	unregister_die_notifier(&notifier);
}

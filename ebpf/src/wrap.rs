//! Wrappers: the same inline function under every attach type. With `--verbose` each tells of its run through aya-log.

use aya_ebpf::helpers::generated::bpf_get_func_arg;

/// Counts the hit and, when wanted, logs it.
macro_rules! ran {
    ($context:expr, $hook:ident) => {
        crate::account::hit(dsascope_common::wire::hook::$hook);
        if crate::account::VERBOSE.load() != 0 {
            aya_log_ebpf::debug!(
                $context,
                "{} on thread {}",
                stringify!($hook),
                crate::kernel::current_tid()
            );
        }
    };
}

/// An argument of an fentry program as a number. Read from the context it would be a typed pointer, which no arithmetic may touch.
#[inline(always)]
pub(crate) fn argument(ctx: &aya_ebpf::programs::FEntryContext, n: u32) -> u64 {
    let mut value = 0;
    // SAFETY: the context is this program's, the value on the stack; a missing argument leaves it 0.
    unsafe { bpf_get_func_arg(aya_ebpf::EbpfContext::as_ptr(ctx), n, &raw mut value) };
    value
}

/// `fentry` and `kprobe` programs around `$function(args)`.
macro_rules! on_entry {
    ($hook:ident, $function:path, $fentry:ident, $kprobe:ident, ($($n:literal),*)) => {
        #[aya_ebpf::macros::fentry]
        pub fn $fentry(ctx: aya_ebpf::programs::FEntryContext) -> i32 {
            crate::wrap::ran!(&ctx, $hook);
            $function($(crate::wrap::argument(&ctx, $n)),*);
            0
        }
        crate::wrap::on_kprobe!($hook, $function, $kprobe, ($($n),*));
    };
}

/// The same for a function that fentry cannot have.
macro_rules! on_kprobe {
    ($hook:ident, $function:path, $kprobe:ident, ($($n:literal),*)) => {
        #[aya_ebpf::macros::kprobe]
        pub fn $kprobe(ctx: aya_ebpf::programs::ProbeContext) -> u32 {
            crate::wrap::ran!(&ctx, $hook);
            $function($(ctx.arg::<u64>($n).unwrap_or(0)),*);
            0
        }
    };
}

/// `fexit` and `kretprobe` programs around `$function()`; with `ret`, around `$function(return value as i32)`.
macro_rules! on_exit {
    ($hook:ident, $function:path, $fexit:ident, $kretprobe:ident) => {
        #[aya_ebpf::macros::fexit]
        pub fn $fexit(ctx: aya_ebpf::programs::FExitContext) -> i32 {
            crate::wrap::ran!(&ctx, $hook);
            $function();
            0
        }
        #[aya_ebpf::macros::kretprobe]
        pub fn $kretprobe(ctx: aya_ebpf::programs::RetProbeContext) -> u32 {
            crate::wrap::ran!(&ctx, $hook);
            $function();
            0
        }
    };
    ($hook:ident, $function:path, $fexit:ident, $kretprobe:ident, ret) => {
        #[aya_ebpf::macros::fexit]
        pub fn $fexit(ctx: aya_ebpf::programs::FExitContext) -> i32 {
            crate::wrap::ran!(&ctx, $hook);
            $function(ctx.ret::<i32>().unwrap_or(-1));
            0
        }
        #[aya_ebpf::macros::kretprobe]
        pub fn $kretprobe(ctx: aya_ebpf::programs::RetProbeContext) -> u32 {
            crate::wrap::ran!(&ctx, $hook);
            $function(ctx.ret::<i32>());
            0
        }
    };
}

pub(crate) use {on_entry, on_exit, on_kprobe, ran};

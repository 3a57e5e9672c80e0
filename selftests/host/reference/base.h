/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM's C code needs of the kernel, as far as one thread in user space can
 * tell: time stands still until it is set, a timer is a number, and there is no
 * other CPU.
 */
#ifndef FERRIC_REFERENCE_BASE_H
#define FERRIC_REFERENCE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef u64 gpa_t;
typedef s64 ktime_t;

#define CONFIG_X86_64			1
#define CONFIG_KVM_IOAPIC		1
#define KBUILD_MODNAME			"reference"

#define __always_inline			inline
#define __maybe_unused			__attribute__((unused))
#define __read_mostly
#define __user
#define fallthrough			__attribute__((fallthrough))
#define likely(x)			(x)
#define unlikely(x)			(x)
#define READ_ONCE(x)			(x)
#define EXPORT_SYMBOL_FOR_KVM_INTERNAL(symbol)
#define module_param(name, type, mode)
#define module_param_named(name, variable, type, mode)

/* A warning is an answer to compare as well: see reference_warnings. */
extern u64 reference_warnings;
#define WARN_ON(x)			({ bool _x = !!(x); reference_warnings += _x; _x; })
#define WARN_ON_ONCE(x)			WARN_ON(x)
#define WARN_ONCE(x, ...)		WARN_ON(x)
#define KVM_BUG_ON(x, kvm)		WARN_ON(x)
#define BUG_ON(x)			do { if (x) abort(); } while (0)
#define pr_info(...)
#define pr_info_once(...)
#define pr_info_ratelimited(...)
#define printk(...)

#define BIT(n)				(1UL << (n))
#define GENMASK_ULL(high, low)		((~0ULL << (low)) & (~0ULL >> (63 - (high))))
#define BITS_PER_LONG			64
#define BITS_TO_LONGS(n)		(((n) + 63) / 64)
#define DECLARE_BITMAP(name, bits)	unsigned long name[BITS_TO_LONGS(bits)]
#define min(a, b)			({ typeof(a) _a = (a); typeof(b) _b = (b); _a < _b ? _a : _b; })
#define max(a, b)			({ typeof(a) _a = (a); typeof(b) _b = (b); _a > _b ? _a : _b; })
#define min_t(type, a, b)		min((type)(a), (type)(b))
#define abs(x)				({ s64 _x = (x); _x < 0 ? -_x : _x; })
#define container_of(p, type, member)	((type *)((char *)(p) - offsetof(type, member)))
#define IS_ALIGNED(x, n)		(((x) & ((n) - 1)) == 0)
#define IS_ERR(p)			false
#define PTR_ERR(p)			0
#define PAGE_SIZE			4096
#define HZ				1

#define __fls(x)			(31 - __builtin_clz((u32)(x)))
#define ffs(x)				__builtin_ffs(x)
#define hweight32(x)			__builtin_popcount(x)
#define hweight16(x)			__builtin_popcount((u16)(x))
#define is_power_of_2(n)		((n) && !((n) & ((n) - 1)))
#define array_index_nospec(index, size)	((index) < (size) ? (index) : 0)
#define for_each_set_bit(bit, map, size) \
	for ((bit) = 0; (bit) < (size); (bit)++) if (test_bit((bit), (map)))

static inline void set_bit(long n, void *map)
{
	((u32 *)map)[n / 32] |= 1u << (n % 32);
}

static inline void clear_bit(long n, void *map)
{
	((u32 *)map)[n / 32] &= ~(1u << (n % 32));
}

static inline bool test_bit(long n, const void *map)
{
	return ((const u32 *)map)[n / 32] >> (n % 32) & 1;
}

static inline bool test_and_set_bit(long n, void *map)
{
	bool old = test_bit(n, map);

	set_bit(n, map);
	return old;
}

static inline bool test_and_clear_bit(long n, void *map)
{
	bool old = test_bit(n, map);

	clear_bit(n, map);
	return old;
}

#define __set_bit			set_bit
#define __clear_bit			clear_bit
#define __test_and_set_bit		test_and_set_bit
#define __test_and_clear_bit		test_and_clear_bit

static inline unsigned long find_nth_bit(const unsigned long *map,
					 unsigned long size, unsigned long n)
{
	unsigned long bit;

	for_each_set_bit(bit, map, size)
		if (!n--)
			return bit;
	return size;
}

#define find_first_bit(map, size)	find_nth_bit(map, size, 0)

#define try_cmpxchg(p, old, new)	(*(p) = (new), true)
#define smp_wmb()
#define smp_rmb()
typedef struct { int counter; } atomic_t;
#define atomic_read(v)			((v)->counter)
#define atomic_read_acquire(v)		((v)->counter)
#define atomic_set(v, i)		((v)->counter = (i))
#define atomic_set_release(v, i)	((v)->counter = (i))
#define atomic_inc(v)			((v)->counter++)
#define atomic_dec(v)			((v)->counter--)
#define atomic_cmpxchg_acquire(v, old, new) \
	({ int _v = (v)->counter; if (_v == (old)) (v)->counter = (new); _v; })
#define atomic_cmpxchg_release		atomic_cmpxchg_acquire

struct mutex { int unused; };
struct rcu_head { int unused; };
#define mutex_lock(lock)
#define mutex_unlock(lock)
#define guard(name)			guard_##name
#define guard_mutex(lock)		((void)(lock))
#define lockdep_is_held(lock)		true
#define preempt_disable()
#define preempt_enable()
#define preemptible()			false
#define local_irq_save(flags)		((void)((flags) = 0))
#define local_irq_restore(flags)	((void)(flags))
#define cond_resched()
#define rcu_read_lock()
#define rcu_read_unlock()
#define rcu_dereference(p)		(p)
#define rcu_dereference_protected(p, c)	(p)
#define rcu_assign_pointer(p, v)	((p) = (v))

#define GFP_KERNEL_ACCOUNT		0
#define kzalloc_obj(obj, gfp)		calloc(1, sizeof(obj))
#define kvzalloc(size, gfp)		calloc(1, size)
#define get_zeroed_page(gfp)		((unsigned long)calloc(1, PAGE_SIZE))
#define free_page(page)			free((void *)(page))
#define kfree(p)			free(p)
#define kvfree(p)			free(p)
#define kvfree_rcu(p, rcu)		free(p)

/* A branch that is never patched looks at the state itself. */
struct static_key { int enabled; };
struct static_key_false_deferred { struct static_key key; };
#define DECLARE_STATIC_KEY_FALSE(name)	extern struct static_key name
#define DEFINE_STATIC_KEY_FALSE(name)	struct static_key name = { 1 }
#define DEFINE_STATIC_KEY_DEFERRED_FALSE(name, delay) \
	struct static_key_false_deferred name = { { 1 } }
#define static_branch_unlikely(k)	true
#define static_branch_inc(k)
#define static_branch_dec(k)
#define static_branch_slow_dec_deferred(k)
#define static_key_deferred_flush(k)

/* Time */

extern s64 reference_now;
#define ktime_get()			reference_now
#define rdtsc()				((u64)reference_now * 2)
#define ktime_sub(a, b)			((a) - (b))
#define ktime_to_ns(t)			((s64)(t))
#define ktime_add_ns(t, ns)		((s64)((u64)(t) + (u64)(ns)))
#define ktime_sub_ns(t, ns)		((s64)((u64)(t) - (u64)(ns)))
#define ktime_before(a, b)		((s64)(a) < (s64)(b))
#define ktime_after(a, b)		((s64)(a) > (s64)(b))
#define div64_u64(a, b)			((u64)(a) / (u64)(b))
#define do_div(n, base) \
	({ u32 _base = (base), _rest = (n) % _base; (n) /= _base; _rest; })
#define mul_u64_u32_div(a, mul, div)	((u64)((unsigned __int128)(a) * (mul) / (div)))

enum hrtimer_restart { HRTIMER_NORESTART, HRTIMER_RESTART };
struct hrtimer {
	bool armed;
	s64 expires;
};

#define CLOCK_MONOTONIC			0
#define HRTIMER_MODE_ABS_HARD		0
#define hrtimer_setup(timer, fn, clock, mode)	((void)(fn))
#define hrtimer_start(timer, time, mode) \
	((timer)->armed = true, (timer)->expires = (time))
#define hrtimer_start_expires(timer, mode)	((timer)->armed = true)
#define hrtimer_set_expires(timer, time)	((timer)->expires = (time))
#define hrtimer_cancel(timer)		({ bool _a = (timer)->armed; (timer)->armed = false; _a; })

#endif /* FERRIC_REFERENCE_BASE_H */

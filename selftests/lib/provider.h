/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which irqchip a virtual machine gets, where there are two: KVM's own, or that
 * of ferric, if its module is loaded.
 */
#ifndef FERRIC_SELFTESTS_PROVIDER_H
#define FERRIC_SELFTESTS_PROVIDER_H

#include "kvm_util.h"

enum provider {
	PROVIDER_KVM,
	PROVIDER_FERRIC,
};

/* If not, VMs get KVM's own irqchip. */
bool ferric_is_loaded(void);
/* VMs that are served by ferric, each of which has a reference on it. */
long ferric_use_count(void);

/*
 * Chooses the provider of the VM that is created next, until provider_end() is
 * called with what this returns, which brings back the choice before.  Programs
 * that choose at once take turns.  Without ferric there is no choice: all get
 * KVM's.
 */
int provider_begin(enum provider provider);
void provider_end(int lock);

#endif /* FERRIC_SELFTESTS_PROVIDER_H */

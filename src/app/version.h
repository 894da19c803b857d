/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LYMER_APP_VERSION_H
#define LYMER_APP_VERSION_H

/* The commit it was built from. Apart, so that a new commit recompiles one line. */
extern const char version_commit[];

#endif

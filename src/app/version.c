/* SPDX-License-Identifier: Apache-2.0 */
#include "app/version.h"

const char version_commit[] = LYMER_COMMIT;

/* gen_cert: `culvert gen-cert`, which makes a CA and certificates, and says how they are used. */
#ifndef CULVERT_APP_GEN_CERT_H
#define CULVERT_APP_GEN_CERT_H

#include "config/options.h"

/* Returns an exit code. */
int gen_cert_run(const struct options *options);

#endif

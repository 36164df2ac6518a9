/* cure: what an operator can do about an errno that keeps the program from starting. One table, so
 * that the same trouble has the same cure everywhere. */
#ifndef CULVERT_CORE_CURE_H
#define CULVERT_CORE_CURE_H

/* Follows strerror() in a sentence: ": raise ulimit -n", or nothing. Never NULL. */
const char *cure_text(int error);

#endif

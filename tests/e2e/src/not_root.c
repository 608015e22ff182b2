/* PostgreSQL refuses to run as root, and where root lacks CAP_SYS_RESOURCE (as on machines that are containers
 * themselves) CRIU may not dump anybody else's process. So the test's PostgreSQL is root's and believes that it isn't. */
unsigned getuid(void) { return 999; }
unsigned geteuid(void) { return 999; }

// Package process runs the program under test, and others, as processes of their own for the tests below test/: it builds the
// program, starts processes, waits for what they say, ends them by their own id and reads what they have used.
//
// # Rules
//
//  1. A process ends with the test that started it, and dies with the test process, where the kernel can see to that.
//  2. What configures a server in the environment of the test is not handed on.
//  3. Nothing waits for time to pass: a wait ends with what it waits for, with the process, or fails the test after Patience.
//  4. A port is given out once, among all test processes of the machine; nobody listens on it at that moment.
package process

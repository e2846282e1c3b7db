package etcdfile

import "os"

// emptyBytes is how much of a file is given back between two rests: some 0.2 ms of work.
const emptyBytes = 4 << 20

// Empty cuts a file of so many bytes down to nothing, from its end on, and calls rest after each piece. To remove a file, or to close one without a
// name, gives all memory that holds it back in one system call: that of 350 MB took a processor for 17 ms.
func Empty(f *os.File, size int64, rest func()) error {
	for size > 0 {
		size = max(0, size-emptyBytes)
		if err := f.Truncate(size); err != nil {
			return err
		}
		rest()
	}
	return nil
}

package etcdfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsEmptiedInPieces(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		size  int64
		rests int
	}{{0, 0}, {1, 1}, {emptyBytes, 1}, {emptyBytes + 1, 2}, {3 * emptyBytes, 3}} {
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(x.size); err != nil {
			t.Fatal(err)
		}
		rests, left := 0, x.size
		err = Empty(f, x.size, func() {
			rests++
			info, err := f.Stat()
			if err != nil || left-info.Size() > emptyBytes {
				t.Errorf("of %d bytes %d are left after %d, %v", x.size, info.Size(), left, err)
			}
			left = info.Size()
		})
		if err != nil || rests != x.rests || left != 0 {
			t.Errorf("%d bytes: %d are left after %d rests, %v; want %d rests", x.size, left, rests, err, x.rests)
		}
	}
}

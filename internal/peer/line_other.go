//go:build !unix

package peer

import "errors"

// canAttempt: a write to a socket may block here.
const canAttempt = false

func attemptWrite(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

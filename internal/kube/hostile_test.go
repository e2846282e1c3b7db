package kube

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestNoValueTakesLong: values as large as they may be are made to need as much time and room as they can.
func TestNoValueTakesLong(t *testing.T) {
	t.Parallel()
	const n = 300_000
	var fields, pairs []byte
	for i := range n {
		fields = append(fields, numberField(protowire.Number(i+1), 1)...)
		pairs = append(pairs, bytesField(2, textField(1, fmt.Sprint("k", i))...)...)
	}
	var keys strings.Builder
	for i := range n {
		fmt.Fprintf(&keys, `"k%d":1,`, i)
	}
	for name, c := range map[string]struct {
		value   []byte
		refused bool
	}{
		"a message of many fields":                {value: stored("v1", "Thing", fields)},
		"a map of many entries":                   {value: stored("v1", "ConfigMap", pairs)},
		"JSON of many keys":                       {value: []byte("{" + keys.String() + `"z":1}`)},
		"JSON with many values far below its top": {value: []byte(`{"a":` + strings.Repeat("[", 900) + strings.Repeat("1,", n) + "1" + strings.Repeat("]", 900) + "}"), refused: true},
		"brackets in texts":                       {value: []byte(`{"a":["` + strings.Repeat(`[\"{,`, n) + `"]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			_, err := YAML(c.value)
			if refused := errors.Is(err, ErrNotKubernetes); refused != c.refused || !refused && err != nil {
				t.Errorf("%v", err)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

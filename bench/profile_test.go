package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// piece is a profile of one call, from a line of a caller, of a program that was built in a directory.
func piece(dir string, address uint64) *profile.Profile {
	program := &profile.Mapping{ID: 1, Start: 0x1000, Limit: 0x9000, File: dir + "/ashlar"}
	callee := &profile.Function{ID: 1, Name: "mvcc.Put", SystemName: "mvcc.Put", Filename: dir + "/mvcc/put.go", StartLine: 10}
	caller := &profile.Function{ID: 2, Name: "apply.put", SystemName: "apply.put", Filename: dir + "/apply/kv.go", StartLine: 20}
	inner := &profile.Location{ID: 1, Mapping: program, Address: address, Line: []profile.Line{{Function: callee, Line: 12}}}
	outer := &profile.Location{ID: 2, Mapping: program, Address: address + 1, Line: []profile.Line{{Function: caller, Line: 25}}}
	return &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Sample: []*profile.Sample{{Location: []*profile.Location{inner, outer}, Value: []int64{int64(address)},
			Label: map[string][]string{"where": {dir}}}},
		Mapping: []*profile.Mapping{program}, Location: []*profile.Location{inner, outer}, Function: []*profile.Function{callee, caller},
		Comments: []string{dir}, TimeNanos: 7,
	}
}

func TestTheCompilersProfileSaysWhoCallsWhomAndNothingOfTheMachine(t *testing.T) {
	t.Parallel()
	merged, err := forCompiler([]*profile.Profile{piece("/home/somebody", 0x2000), piece("/home/another", 0x3000)})
	if err != nil {
		t.Fatal(err)
	}
	if len(merged.Sample) != 1 || merged.Sample[0].Value[0] != 0x5000 || len(merged.Sample[0].Location) != 2 {
		t.Fatalf("the same call of two programs is not one: %v", merged)
	}
	outer := merged.Sample[0].Location[1].Line[0]
	if outer.Line != 25 || outer.Function.StartLine != 20 || outer.Function.Name != "apply.put" {
		t.Errorf("the caller is %+v of %+v", outer, outer.Function)
	}
	if text := merged.String(); strings.Contains(text, "/home") {
		t.Errorf("it tells where it comes from:\n%s", text)
	}
}

// servedBy is a cluster of one member, which a handler answers for.
func servedBy(t *testing.T, answer http.HandlerFunc) *cluster {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return &cluster{members: []*member{{client: server.Listener.Addr().String()}}}
}

// A run takes hours, and without a profile somebody may want to begin it again.
func TestAProfileThatFailsIsToldAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	told, asked := make(chan string, 10), atomic.Int64{}
	c := servedBy(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	})
	p := &profiler{say: func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }}
	want := "there will be no profile: asking for a profile: 404 Not Found"
	p.during(t.Context(), c, func() Turn {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("it tells %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Error("it tells nothing")
		}
		return Turn{}
	})
	p.during(t.Context(), c, func() Turn { return Turn{} })
	path := filepath.Join(t.TempDir(), "profile")
	if err := p.save(path); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("it is saved: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || len(told) != 0 || asked.Load() != 1 {
		t.Errorf("it told %d times more and asked %d times; %v", len(told), asked.Load(), err)
	}
}

// A turn that the end of the run's time has cut short does not count, and the profile of those before does.
func TestAProfileOutlivesTheTurnThatIsCutShort(t *testing.T) {
	t.Parallel()
	whole, began := true, make(chan struct{}, 1)
	c := servedBy(t, func(w http.ResponseWriter, r *http.Request) {
		if whole {
			whole = false
			_ = piece("/home/somebody", 0x2000).Write(w)
			return
		}
		began <- struct{}{}
		<-r.Context().Done()
	})
	p := &profiler{say: t.Errorf}
	ctx, cancel := context.WithCancel(t.Context())
	p.during(ctx, c, func() Turn {
		<-began
		cancel()
		return Turn{}
	})
	path := filepath.Join(t.TempDir(), "profile")
	if err := p.save(path); err != nil {
		t.Error(err)
	}
}

// The file that the image and the bench's program are built with.
func TestTheImagesProfile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", imageProfile))
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 200_000 {
		t.Errorf("it has %d bytes", len(raw))
	}
	p, err := profile.Parse(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.SampleType); n == 0 || p.SampleType[n-1].Type != "cpu" {
		t.Errorf("it is of %v", p.SampleType)
	}
	known := false
	for _, f := range p.Function {
		if f.Filename != "" {
			t.Errorf("%s has a file, %s", f.Name, f.Filename)
		}
		known = known || strings.HasPrefix(f.Name, "github.com/ashlar-kv/ashlar/internal/mvcc.")
	}
	if !known {
		t.Error("it does not know the store")
	}
	if len(p.Mapping) > 0 || len(p.Comments) > 0 || p.TimeNanos != 0 || p.DurationNanos != 0 {
		t.Errorf("it tells where and when it comes from: %v, %v, %d, %d", p.Mapping, p.Comments, p.TimeNanos, p.DurationNanos)
	}
	if i := slices.IndexFunc(p.Sample, func(s *profile.Sample) bool { return len(s.Label)+len(s.NumLabel) > 0 }); i >= 0 {
		t.Errorf("it tells of what was going on: %v", p.Sample[i])
	}
	recipe, err := os.ReadFile("../deploy/Containerfile")
	if err != nil || !strings.Contains(string(recipe), " -pgo "+imageProfile+" ") {
		t.Errorf("the image is built without it, %v", err)
	}
}

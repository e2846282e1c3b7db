//go:build ignore

// Command gateway-errors copies recordings of etcd and applies the one deliberate difference of the JSON gateway: an error holds its
// text as "error", too, besides "code" and "message" (docs/compatibility.md). Nothing else is changed.
//
//	go run .ci/gateway-errors.go FROM TO
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
)

type object = map[string]json.RawMessage

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: gateway-errors FROM TO")
	}
	from, to := os.Args[1], os.Args[2]
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		log.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(to, "gateway", "*.json"))
	if err != nil {
		log.Fatal(err)
	}
	total := 0
	for _, name := range files {
		n, err := rewrite(name)
		if err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		total += n
	}
	if total == 0 {
		log.Fatal("no error of the gateway in the recordings")
	}
	fmt.Printf("%d errors of the gateway hold their text twice\n", total)
}

// rewrite changes the errors in one recording and returns how many there were.
func rewrite(name string) (n int, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	var file object
	var steps []object
	if err := json.Unmarshal(b, &file); err != nil {
		return 0, err
	}
	if err := json.Unmarshal(file["steps"], &steps); err != nil {
		return 0, err
	}
	for _, step := range steps {
		changed, err := withError(step)
		if err != nil {
			return 0, err
		}
		n += changed
	}
	if file["steps"], err = json.Marshal(steps); err != nil {
		return 0, err
	}
	if b, err = json.Marshal(file); err != nil {
		return 0, err
	}
	return n, os.WriteFile(name, b, 0o644)
}

// withError adds the field to the answer that a step wants, if that is an object of "code" and "message" alone.
func withError(step object) (int, error) {
	var want, answer object
	if json.Unmarshal(step["want"], &want) != nil || json.Unmarshal(want["json"], &answer) != nil {
		return 0, nil // a list of messages, or no JSON
	}
	if len(answer) != 2 || answer["code"] == nil || answer["message"] == nil {
		return 0, nil
	}
	answer["error"] = answer["message"]
	var err error
	if want["json"], err = json.Marshal(answer); err != nil {
		return 0, err
	}
	if step["want"], err = json.Marshal(want); err != nil {
		return 0, err
	}
	return 1, alike(step)
}

// alike leaves the new field uncompared where the text is.
func alike(step object) (err error) {
	var parts []string
	if step["any"] == nil {
		return nil
	}
	if err := json.Unmarshal(step["any"], &parts); err != nil {
		return err
	}
	if slices.Contains(parts, "json.message") {
		step["any"], err = json.Marshal(append(parts, "json.error"))
	}
	return err
}

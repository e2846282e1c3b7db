package config

import (
	"fmt"
	"io"
)

// Usage writes the forms of the command, for the program of that name.
func Usage(w io.Writer, program string) {
	fmt.Fprintf(w, "Usage:\n\n  %[1]s [flags]\n    Start a member.\n\n"+
		"  %[1]s --version\n    Print the version.\n\n"+
		"  %[1]s -h | --help\n    Print this help.\n\n"+
		"  %[1]s --config-file FILE\n    Read the configuration from a YAML file. Other flags and variables are then "+
		"ignored.\n    Durations in the file are whole numbers of nanoseconds.\n\n", program)
	if program != "etcd" {
		fmt.Fprintf(w, "  %[1]s version\n    Print our version and the etcd level.\n\n", program)
	}
	fmt.Fprint(w, "Every flag has a variable: ETCD_ and its name in upper case with _ for -.\n")
}

// Help writes the usage and every flag by group, with its default and what it does. Flags that have no
// meaning say so.
func Help(w io.Writer, program string) {
	Usage(w, program)
	for _, g := range Groups {
		fmt.Fprintf(w, "\n%s:\n", g)
		for _, f := range table {
			if f.Group != g {
				continue
			}
			fmt.Fprintf(w, "  --%s '%s'\n    %s\n", f.Name, f.Default, f.Usage)
			switch f.Status {
			case Accepted:
				fmt.Fprintf(w, "    Taken without effect: %s.\n", f.Note)
			case Built:
			}
		}
	}
}

// Package embed runs a member inside of a Go program.
//
//	cfg := embed.NewConfig()
//	cfg.Dir = "/var/lib/keys"
//	e, err := embed.StartEtcd(cfg)
//	if err != nil {
//		return err
//	}
//	defer e.Close()
//	<-e.Server.ReadyNotify()
//	client, err := e.Client() // inside the process: no socket, no TLS
//
// Names and shapes are those of etcd's package of the same name, so that a program which embeds etcd is changed by its import;
// docs/embedding.md says what differs. [Config] holds the settings under the names that etcd gives them there, and [Config.Set] takes any
// of the command line's.
//
// # What a program may count on
//
// A member takes nothing of the process for its own: it handles no signals, never ends the process, sets no defaults of other
// packages, and writes to no log but the one that it is given. What goes wrong comes from [Etcd.Err]. So a process may run any number of
// members, of one cluster or of several, each with a directory and addresses of its own. The one setting for the whole process is
// memory-mlock, since the operating system locks all of its memory or none.
//
// A member that ends leaves nothing behind: its listeners are closed, its goroutines have ended, its files can be opened by
// the next one.
//
// # Ending
//
// [Etcd.Close] ends a member in good order: leadership goes to another one, requests under way are answered, the state is written
// out. Nothing is lost without it: what was acknowledged is on disk.
package embed

// Package deploy tests the files in deploy/ that start members, against the program that they start: that it takes every flag
// and variable they name, serves the paths that they probe, and is called by the names that the image has.
//
// Dashboards and alerts are tested in test/observe.
package deploy

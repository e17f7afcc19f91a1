"""What people read: figures, the page of a participant, the methods text, the compliance with the consensus."""

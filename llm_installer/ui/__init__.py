"""What people see in a terminal. The only room beside training/reporters that draws for one."""
